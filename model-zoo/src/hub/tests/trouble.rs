//! A Hub that is busy, breaks off, moves on or holds something else.

use super::*;

#[test]
fn a_busy_hub_is_left_alone_as_long_as_it_asks_for() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let busy = Fault::Answer(Answer::status(429).header("Retry-After", "7"));
    hub.fail("POST", "/create", 1, busy.clone());
    hub.fail("POST", COMMIT, 2, busy.clone());
    ada.publish().unwrap();
    assert_eq!(ada.waited, [Duration::from_secs(7); 3]);
    assert_eq!(commits(&hub), 2);

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 99, busy);
    contains(&ada.failure(), &["429", "in 7 s", "Nothing was published"]);
    let hub = Hub::start();
    hub.fail("GET", "/api/models/", 99, Fault::Answer(Answer::status(429).header("Retry-After", "86400")));
    let mut ada = User::of(&hub);
    contains(&ada.failure(), &["429", "in 86400 s"]);
    assert!(ada.waited.is_empty(), "nobody waits for a day");
}

#[test]
fn a_hub_in_trouble_is_asked_again_and_then_given_up() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let trouble = Fault::Answer(Answer::status(503));
    for (method, path) in [("GET", "/api/models/"), ("POST", "/create"), ("POST", "/preupload/"), ("POST", COMMIT)] {
        hub.fail(method, path, 2, trouble.clone());
    }
    ada.publish().unwrap();
    assert_eq!((commits(&hub), ada.waited.len()), (2, 8));

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 99, trouble);
    contains(&ada.failure(), &["503", "status.huggingface.co", "Nothing was published"]);
    assert_eq!(commits(&hub), 2);
}

#[test]
fn a_commit_that_was_cut_off_is_looked_for() {
    // The Hub got it, and the answer got lost.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::AnswerAfter(Answer::cut()));
    assert_eq!(changed(User::of(&hub).publish().unwrap()), [MODEL, CONFIG, RUN, CARD]);
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 1));

    // The Hub did not get it: it is sent again.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::Answer(Answer::cut()));
    User::of(&hub).publish().unwrap();
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 2));

    // As an error of a gateway, with the commit made behind it, and another one on top.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::OvertakenAfter(Answer::status(504)));
    User::of(&hub).publish().unwrap();
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (3, 1));

    // Every time.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 99, Fault::Answer(Answer::cut()));
    contains(&User::of(&hub).failure(), &["cannot commit to ada/ttame", "Nothing was published", "empty"]);
    assert_eq!(commits(&hub), 1);

    // And then the Hub is gone: nobody can tell.
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let mut ada = User::of(&hub);
    hub.fail("POST", "/preupload/", 1, Fault::Answer(Answer::cut()));
    hub.fail("GET", "/revision/main", 99, Fault::Answer(Answer::cut()));
    contains(&ada.failure(), &["cannot be told", "/ada/ttame/commits/main"]);
}

#[test]
fn a_branch_that_moves_meanwhile_is_not_overwritten() {
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let mut ada = User::of(&hub);
    hub.fail("POST", "/preupload/", 1, Fault::Overtaken);
    contains(&ada.failure(), &["ada/ttame moved", "main", "Run it again", "Nothing was published"]);
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 1));
    ada.publish().unwrap();
    assert_eq!(commits(&hub), 3);
    assert_eq!(hub.file(REPOSITORY, "main", "NOTES.md").unwrap(), b"not yours");

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 1, Fault::Answer(Answer::status(409)));
    contains(&ada.failure(), &["409", "run it again", "Nothing was published"]);
}

#[test]
fn a_hub_that_holds_something_else_than_was_sent_is_found_out() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let yaml = "ZXhwbGFpbmVyOiB7bWV0aG9kOiB0dGFtZX0K"; // of the run
    hub.fail("POST", COMMIT, 1, Fault::Altered(yaml.into(), "ZXhwbGFpbmVyOiB7bWV0aG9kOiBYWFhYWH0K".into()));
    contains(&ada.failure(), &["another train.yaml", "hf://ada/ttame@", "do not use"]);
    assert_eq!(changed(ada.publish().unwrap()), [RUN]);
}
