//! Downloads: damaged, incomplete, missing and too large files.

use super::*;

#[test]
fn missing_parts_are_named() {
    let hub = Hub::start();
    let mut bob = User::of(&hub);
    contains(&bob.fetch("hf://ada/ttame").unwrap_err().to_string(), &["no hf://ada/ttame", "HF_TOKEN"]);
    hub.create(REPOSITORY, false);
    contains(&bob.fetch("hf://ada/ttame@v9").unwrap_err().to_string(), &["no hf://ada/ttame@v9"]);
    contains(&bob.fetch("hf://ada/ttame").unwrap_err().to_string(), &["hf://ada/ttame@", "no config.json"]);
    bob.settings.hub.offline = true;
    let cache = bob.path("cache").display().to_string();
    contains(&bob.fetch("hf://ada/ttame").unwrap_err().to_string(), &["hf://ada/ttame", "HF_HUB_OFFLINE", &cache]);

    hub.fail("POST", COMMIT, 1, Fault::Answer(Answer::status(404)));
    contains(&User::of(&hub).failure(), &["404", REPOSITORY, "Nothing was published"]);
}

#[test]
fn damaged_files_are_fetched_again_or_refused() {
    let hub = Hub::start();
    User::of(&hub).publish().unwrap();
    let mut bob = User::of(&hub);
    let fetched = bob.fetch("hf://ada/ttame").unwrap();
    for file in [MODEL, CONFIG] {
        let path = fetched.folder.join(file);
        let right = fs::read(&path).unwrap();
        fs::write(&path, "something else").unwrap();
        bob.settings.hub.offline = true;
        let error = bob.fetch("hf://ada/ttame").unwrap_err().to_string();
        contains(&error, &[file]);
        bob.settings.hub.offline = false;
        assert_eq!(bob.fetch("hf://ada/ttame").unwrap(), fetched);
        assert_eq!(fs::read(&path).unwrap(), right);
    }
    // The Hub sends other bytes than it states.
    hub.fail("GET", "/cdn/", 99, Fault::Answer(Answer::body(b"<html>")));
    let error = User::of(&hub).fetch("hf://ada/ttame").unwrap_err().to_string();
    contains(&error, &["model.safetensors", "SHA-256", "the Hub says"]);
}

#[test]
fn an_unfinished_download_is_no_explainer() {
    let hub = Hub::start();
    User::of(&hub).publish().unwrap();
    let mut bob = User::of(&hub);
    hub.fail("HEAD", "/model.safetensors", 1, Fault::Answer(Answer::status(403)));
    bob.fetch("hf://ada/ttame").unwrap_err();
    bob.settings.hub.offline = true;
    contains(&bob.fetch("hf://ada/ttame").unwrap_err().to_string(), &["not completely"]);
    bob.settings.hub.offline = false;
    bob.fetch("hf://ada/ttame").unwrap();
}

#[test]
fn too_large_files_are_refused_before_the_download() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    ada.publish().unwrap();
    hub.commit(REPOSITORY, "main", &[(CONFIG, &vec![b' '; (10 << 20) + 1])]);
    let error = User::of(&hub).fetch("hf://ada/ttame").unwrap_err().to_string();
    contains(&error, &["config.json", "10485761 bytes", "not downloaded"]);
    assert_eq!(hub.count("GET", "/resolve/"), 0);
}
