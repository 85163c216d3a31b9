//! Transient errors, interrupted requests, moved branches, altered files.

use super::*;

#[test]
fn retry_after_is_honoured() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let busy = Fault::Answer(Answer::status(429).header("Retry-After", "7"));
    hub.fail("POST", "/create", 1, busy.clone());
    hub.fail("POST", COMMIT, 2, busy.clone());
    ada.publish().unwrap();
    assert_eq!(ada.pauses, [Duration::from_secs(7); 3]);
    assert_eq!(commits(&hub), 2);

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 99, busy);
    contains(&ada.failure(), &["429", "in 7 s", "Nothing was published"]);
    let hub = Hub::start();
    hub.fail("GET", "/api/models/", 99, Fault::Answer(Answer::status(429).header("Retry-After", "86400")));
    let mut ada = User::of(&hub);
    contains(&ada.failure(), &["429", "in 86400 s"]);
    assert!(ada.pauses.is_empty(), "a day is too long");
}

#[test]
fn transient_errors_are_retried_and_then_given_up() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let trouble = Fault::Answer(Answer::status(503));
    for (method, path) in [("GET", "/api/models/"), ("POST", "/create"), ("POST", "/preupload/"), ("POST", COMMIT)] {
        hub.fail(method, path, 2, trouble.clone());
    }
    ada.publish().unwrap();
    assert_eq!((commits(&hub), ada.pauses.len()), (2, 8));

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 99, trouble);
    contains(&ada.failure(), &["503", "status.huggingface.co", "Nothing was published"]);
    assert_eq!(commits(&hub), 2);
}

#[test]
fn an_interrupted_commit_is_not_repeated_blindly() {
    // The Hub has the commit, its answer was lost.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::AnswerAfter(Answer::cut()));
    assert_eq!(changed(User::of(&hub).publish().unwrap()), [MODEL, CONFIG, RUN, CARD]);
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 1));

    // The Hub does not have the commit: it is sent again.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::Answer(Answer::cut()));
    User::of(&hub).publish().unwrap();
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 2));

    // A gateway error, but the commit was made, and another one on top of it.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 1, Fault::OvertakenAfter(Answer::status(504)));
    User::of(&hub).publish().unwrap();
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (3, 1));

    // All attempts fail.
    let hub = Hub::start();
    hub.fail("POST", COMMIT, 99, Fault::Answer(Answer::cut()));
    contains(&User::of(&hub).failure(), &["cannot commit to ada/ttame", "Nothing was published", "empty"]);
    assert_eq!(commits(&hub), 1);

    // The branch cannot be checked: the outcome is unknown.
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let mut ada = User::of(&hub);
    hub.fail("POST", "/preupload/", 1, Fault::Answer(Answer::cut()));
    hub.fail("GET", "/revision/main", 99, Fault::Answer(Answer::cut()));
    contains(&ada.failure(), &["unknown whether", "/ada/ttame/commits/main"]);
}

#[test]
fn a_branch_that_moves_is_not_overwritten() {
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let mut ada = User::of(&hub);
    hub.fail("POST", "/preupload/", 1, Fault::Overtaken);
    contains(&ada.failure(), &["ada/ttame changed during publishing", "main", "again", "Nothing was published"]);
    assert_eq!((commits(&hub), hub.count("POST", COMMIT)), (2, 1));
    ada.publish().unwrap();
    assert_eq!(commits(&hub), 3);
    assert_eq!(hub.file(REPOSITORY, "main", "NOTES.md").unwrap(), b"not yours");

    artifact(&ada.path("artifact"), 2);
    hub.fail("POST", COMMIT, 1, Fault::Answer(Answer::status(409)));
    contains(&ada.failure(), &["409", "run it again", "Nothing was published"]);
}

#[test]
fn altered_files_are_detected() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let yaml = "ZXhwbGFpbmVyOiB7bWV0aG9kOiB0dGFtZX0K"; // of the run
    hub.fail("POST", COMMIT, 1, Fault::Altered(yaml.into(), "ZXhwbGFpbmVyOiB7bWV0aG9kOiBYWFhYWH0K".into()));
    contains(&ada.failure(), &["another train.yaml", "hf://ada/ttame@", "do not use"]);
    assert_eq!(changed(ada.publish().unwrap()), [RUN]);
}
