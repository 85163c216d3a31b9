mod fetched;
mod trouble;

use std::fs;
use std::path::Path;
use std::time::Duration;

use burn::tensor::Device;
use hub_server::{Answer, Fault, Hub, READ_TOKEN, TOKEN, refused_url};
use tempfile::TempDir;

use super::fetch::fetch_with_sleep;
use super::*;
use crate::artifact::{Artifact, ArtifactConfig, CARD, CONFIG, MODEL, RUN};
use crate::backbone::{BackboneSpec, TapSpec, imagenet};
use crate::explainer::{Method, TameConfig, TameHead};
use crate::weights::source::{HubSettings, SourceSettings};

const REPOSITORY: &str = "ada/ttame";
const COMMIT: &str = "/commit/";

/// Writes an artifact; the seed determines its head.
fn artifact(folder: &Path, seed: u64) {
    let taps = vec![TapSpec::map("layer2", 2, 8), TapSpec::map("layer3", 3, 16)];
    let names: Vec<String> = taps.iter().map(|tap| tap.name.clone()).collect();
    let backbone = BackboneSpec {
        name: "resnet18".into(),
        preprocessing: imagenet(),
        classes: 4,
        default_taps: names.clone(),
        auxiliary_taps: names.clone(),
        taps,
        weights_sha256: Some("ab".repeat(32)),
    };
    let head = TameHead::new(TameConfig::ttame(&backbone.taps, backbone.classes, 64), seed, &Device::flex());
    let mut config = ArtifactConfig::new(Method::Ttame, head.config().clone(), names, &backbone, "hf://timm/resnet18");
    config.figures.insert("AD(50)".into(), 12.5);
    Artifact { config, head: head.into() }.save(folder, "explainer: {method: ttame}\n").unwrap();
}

/// A user of the Hub, with an artifact and a cache.
struct User {
    folder: TempDir,
    settings: SourceSettings,
    pauses: Vec<Duration>,
}

impl User {
    fn new(endpoint: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        artifact(&folder.path().join("artifact"), 1);
        let hub = HubSettings {
            endpoint: Some(endpoint.to_owned()),
            token: Some(token.to_owned()),
            cache_dir: Some(folder.path().join("cache")),
            offline: false,
        };
        let settings = SourceSettings { cache_dir: None, hub, backoff: Duration::ZERO };
        Self { folder, settings, pauses: Vec::new() }
    }

    fn of(hub: &Hub) -> Self {
        Self::new(&hub.endpoint(), TOKEN)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn upload(&self, license: Option<&str>) -> Upload {
        let publication = Publication {
            artifact: self.path("artifact"),
            repository: REPOSITORY.parse().unwrap(),
            license: license.map(str::to_owned),
            sheet: None,
            images: Some("shapes".into()),
        };
        Upload::new(&publication).unwrap()
    }

    fn publish_to(&mut self, target: &PublishOptions) -> Result<PublishOutcome, HubError> {
        let upload = self.upload(Some("apache-2.0"));
        let pauses = &mut self.pauses;
        upload.publish_with_sleep(target, &self.settings, &mut |time| pauses.push(time))
    }

    fn publish(&mut self) -> Result<PublishOutcome, HubError> {
        self.publish_to(&PublishOptions::default())
    }

    /// The error of publishing, checked for tokens.
    fn failure(&mut self) -> String {
        let error = self.publish().unwrap_err();
        message(&error)
    }

    fn fetch(&mut self, reference: &str) -> Result<Snapshot, HubError> {
        let pauses = &mut self.pauses;
        let reference: Reference = reference.parse()?;
        fetch_with_sleep(&reference, &self.settings, &mut |_, _| {}, &mut |time| pauses.push(time))
    }
}

/// The text of an error; neither it nor its `Debug` form holds a token.
fn message(error: &HubError) -> String {
    let both = format!("{error} {error:?}");
    assert!(!both.contains(TOKEN) && !both.contains(READ_TOKEN) && !both.contains("Bearer"), "{both}");
    error.to_string()
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn changed(outcome: PublishOutcome) -> Vec<&'static str> {
    match outcome {
        PublishOutcome::Published { changed, .. } => changed,
        other => panic!("{other:?}"),
    }
}

fn commits(hub: &Hub) -> usize {
    hub.commits(REPOSITORY, "main").len()
}

#[test]
fn what_is_published_is_what_is_fetched() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let target = PublishOptions { private: true, title: Some("First".into()), ..PublishOptions::default() };
    let PublishOutcome::Published { reference, page, changed, created } = ada.publish_to(&target).unwrap() else {
        panic!()
    };
    assert_eq!(changed, [MODEL, CONFIG, RUN, CARD]);
    assert!(created && hub.is_private(REPOSITORY).unwrap());
    assert_eq!(hub.commits(REPOSITORY, "main"), ["First", "initial commit"]);
    assert_eq!(reference.revision, hub.head(REPOSITORY, "main"));
    assert!(page.contains(reference.revision.as_deref().unwrap()), "{page}");
    for file in [MODEL, CONFIG, RUN] {
        assert_eq!(hub.file(REPOSITORY, "main", file), fs::read(ada.path("artifact").join(file)).ok(), "{file}");
    }

    let mut bob = User::of(&hub);
    let fetched = bob.fetch("hf://ada/ttame").unwrap();
    assert_eq!(fetched.reference, reference);
    Artifact::load(&fetched.folder, &Device::flex()).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&fetched.folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [CARD, CONFIG, MODEL, RUN]);

    // The branch is looked up again, no file is downloaded again; a commit needs no network at all.
    let before = hub.asked().len();
    assert_eq!(bob.fetch("hf://ada/ttame@main").unwrap(), fetched);
    assert_eq!(hub.asked()[before..], ["GET /api/models/ada/ttame/revision/main"]);
    assert_eq!(bob.fetch(&reference.to_string()).unwrap(), fetched);
    assert_eq!(hub.asked().len(), before + 1);
    bob.settings.hub.offline = true;
    assert_eq!(bob.fetch("hf://ada/ttame").unwrap(), fetched);
    bob.settings.hub.offline = false;
    bob.settings.hub.endpoint = Some(refused_url(""));
    assert_eq!(bob.fetch("hf://ada/ttame").unwrap(), fetched);
    assert!(bob.pauses.is_empty(), "with a cached copy nobody waits");
}

#[test]
fn unchanged_files_make_no_commit() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    ada.publish().unwrap();
    let head = hub.head(REPOSITORY, "main");
    let again = ada.publish().unwrap();
    assert!(matches!(&again, PublishOutcome::Unchanged { reference } if reference.revision == head), "{again:?}");
    assert_eq!((commits(&hub), hub.count("POST", COMMIT), hub.count("POST", "/create")), (2, 1, 1));

    artifact(&ada.path("artifact"), 2);
    assert_eq!(changed(ada.publish().unwrap()), [MODEL, CONFIG]);
    assert_eq!(commits(&hub), 3);
    let changes = ada.upload(Some("mit")).compare(&PublishOptions::default(), &ada.settings).unwrap();
    assert_eq!(
        changes,
        [FileChange::None, FileChange::None, FileChange::None, FileChange::Replaced],
        "the licence is in the card"
    );
    assert_eq!(commits(&hub), 3);
}

#[test]
fn branches_and_pull_requests_leave_main_as_it_is() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    ada.publish().unwrap();
    artifact(&ada.path("artifact"), 2);
    let branch = PublishOptions { revision: Some("next".into()), ..PublishOptions::default() };
    assert_eq!(changed(ada.publish_to(&branch).unwrap()), [MODEL, CONFIG]);
    assert_eq!((commits(&hub), hub.commits(REPOSITORY, "next").len()), (2, 3));
    let pull = PublishOptions { create_pr: true, ..PublishOptions::default() };
    let PublishOutcome::Proposed { page, changed } = ada.publish_to(&pull).unwrap() else { panic!() };
    assert!(page.ends_with("/ada/ttame/discussions"), "{page}");
    assert_eq!((changed, commits(&hub)), (vec![MODEL, CONFIG], 2));
    assert_eq!(hub.commits(REPOSITORY, "refs/pr/1").len(), 3);
    assert_eq!(
        ada.fetch("hf://ada/ttame@refs%2Fpr%2F1").unwrap().reference.revision,
        hub.head(REPOSITORY, "refs/pr/1")
    );

    // It is unknown whether a second one is needed.
    hub.fail("POST", COMMIT, 1, Fault::AnswerAfter(Answer::cut()));
    let error = ada.publish_to(&pull).unwrap_err();
    contains(&message(&error), &["unknown whether", "/ada/ttame/discussions"]);
    assert_eq!(hub.count("POST", COMMIT), 4);
}

#[test]
fn a_licence_is_needed() {
    let hub = Hub::start();
    let ada = User::of(&hub);
    let error = ada.upload(None).publish(&PublishOptions::default(), &ada.settings).unwrap_err().to_string();
    contains(&error, &["licence", "--license", "apache-2.0"]);
    assert!(hub.asked().is_empty());
    let publication = Publication {
        artifact: ada.path("artifact"),
        repository: REPOSITORY.parse().unwrap(),
        license: Some("mit\ntags: [x]".into()),
        sheet: None,
        images: None,
    };
    contains(&Upload::new(&publication).unwrap_err().to_string(), &["no licence", "apache-2.0"]);
    assert!(ada.upload(Some("Apache-2.0")).card().contains("license: \"apache-2.0\"\n"));
}

#[test]
fn the_card_is_made_for_its_place_and_an_edited_text_is_kept() {
    let hub = Hub::start();
    let ada = User::of(&hub);
    let card = ada.upload(Some("mit")).card();
    let parts = [
        "base_model: \"timm/resnet18\"",
        "name: \"shapes\"",
        "- type: average-drop\n      name: \"AD(50)\"\n      value: 12.5\n",
        "explainer-train explain hf://ada/ttame image.jpg",
        "hf_hub_download(\"ada/ttame\", \"model.safetensors\")",
        "1 forward and 0 backward passes",
    ];
    contains(&card, &parts);
    let path = ada.path("artifact").join(CARD);
    let saved = fs::read_to_string(&path).unwrap();
    fs::write(&path, saved.replace("## Training", "## How it was made")).unwrap();
    let card = ada.upload(Some("mit")).card();
    contains(&card, &["license: \"mit\"", "## How it was made", "explain DIR image.jpg"]);
    assert!(!card.contains("# license:"), "{card}");
}

#[test]
fn a_contact_sheet_is_published_too() {
    let hub = Hub::start();
    let ada = User::of(&hub);
    let sheet = ada.path("sheet.png");
    fs::write(&sheet, b"a picture").unwrap();
    let publication = Publication {
        artifact: ada.path("artifact"),
        repository: REPOSITORY.parse().unwrap(),
        license: Some("mit".into()),
        sheet: Some(sheet.clone()),
        images: None,
    };
    let outcome = Upload::new(&publication).unwrap().publish(&PublishOptions::default(), &ada.settings).unwrap();
    assert_eq!(changed(outcome), [MODEL, CONFIG, RUN, CARD, SHEET]);
    assert_eq!(hub.file(REPOSITORY, "main", SHEET).unwrap(), b"a picture");
    let card = String::from_utf8(hub.file(REPOSITORY, "main", CARD).unwrap()).unwrap();
    contains(&card, &["](contact_sheet.png)"]);
    fs::remove_file(sheet).unwrap();
    contains(&Upload::new(&publication).unwrap_err().to_string(), &["cannot read", "sheet.png"]);
}

#[test]
fn an_artifact_that_is_not_sound_is_not_published() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    let path = ada.path("artifact").join(MODEL);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let publication = Publication {
        artifact: ada.path("artifact"),
        repository: REPOSITORY.parse().unwrap(),
        license: Some("mit".into()),
        sheet: None,
        images: None,
    };
    contains(&Upload::new(&publication).unwrap_err().to_string(), &["model.safetensors", "SHA-256"]);
    ada.settings.hub.offline = true;
    artifact(&ada.path("artifact"), 1);
    contains(&ada.failure(), &["HF_HUB_OFFLINE", REPOSITORY]);
    assert!(hub.asked().is_empty());
}

#[test]
fn a_private_repository_does_not_become_a_public_one() {
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let error = User::of(&hub).publish_to(&PublishOptions { private: true, ..PublishOptions::default() }).unwrap_err();
    contains(&message(&error), &[REPOSITORY, "public", "--private", "Nothing was published"]);
    assert_eq!(hub.count("POST", COMMIT), 0);
}

#[test]
fn a_missing_wrong_or_read_only_token_is_named() {
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let wrong = User::new(&hub.endpoint(), "hf_wrong").failure();
    contains(&wrong, &["401", "HF_TOKEN", "hf auth login", REPOSITORY, "Nothing was published"]);
    let read = User::new(&hub.endpoint(), READ_TOKEN).failure();
    contains(&read, &["403", "write access", "rights to push", REPOSITORY, "Nothing was published"]);
    assert_eq!(commits(&hub), 1);

    let hub = Hub::start();
    let new = User::new(&hub.endpoint(), READ_TOKEN).failure();
    contains(&new, &["cannot create ada/ttame", "403"]);
    let stranger = User::new(&hub.endpoint(), "hf_wrong").fetch("hf://ada/ttame").unwrap_err();
    contains(&message(&stranger), &["401", "HF_TOKEN", "no such repository"]);
}

#[test]
fn tokens_in_messages_of_the_hub_are_hidden() {
    let hub = Hub::start();
    hub.create(REPOSITORY, false);
    let body = format!("{{\"error\": \"{TOKEN} may not, nor hf_another\\u001b[2J\"}}");
    hub.fail("POST", "/preupload/", 1, Fault::Answer(Answer::status(403).with_body(body.as_bytes())));
    let error = User::of(&hub).failure();
    contains(&error, &["403", "(hidden) may not, nor (hidden)"]);
    assert!(!error.contains("hf_another") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn debug_shows_no_token() {
    let hub = Hub::start();
    let user = User::of(&hub);
    let shown = format!("{:?} {:?}", user.settings, user.upload(Some("mit")).files()[3].name);
    assert!(!shown.contains(TOKEN), "{shown}");
}
