//! Publishing, fetching and the zoo as their user meets them, against a Hub on this machine.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use explainer_train::data::shapes::{SIDE, ShapesSet, Split};
use hub_server::{Answer, Fault, Hub, READ_TOKEN, TOKEN, refused_url};
use tempfile::TempDir;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model-zoo/assets/quickstart");
const PUBLISH: [&str; 4] = ["publish", SHIPPED, "--repo", "ada/quickstart"];

/// Somebody at a machine of their own.
struct User {
    home: TempDir,
    endpoint: String,
    token: Option<&'static str>,
    offline: bool,
}

/// What a run of the program left.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl User {
    fn of(hub: &Hub) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let image = ShapesSet::new(Split::Fresh, 1, 3).scene(0).image.to_vec();
        let image = image::RgbImage::from_raw(SIDE as u32, SIDE as u32, image).expect("a whole image");
        image.save(home.path().join("photo.png")).expect("a file");
        Self { home, endpoint: hub.endpoint(), token: Some(TOKEN), offline: false }
    }

    /// Runs the program, with all that its libraries log; a token is nowhere in it.
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(args).current_dir(self.home.path());
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path().join("hf")).env("HF_ENDPOINT", &self.endpoint);
        command.env("HF_HUB_OFFLINE", if self.offline { "1" } else { "0" }).env("NO_PROXY", "127.0.0.1,localhost");
        command.env("RUST_LOG", "trace").env_remove("EXPLAINER_DEVICE");
        match self.token {
            Some(token) => command.env("HF_TOKEN", token),
            None => command.env_remove("HF_TOKEN"),
        };
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        for token in [TOKEN, READ_TOKEN] {
            assert!(!ran.out.contains(token) && !ran.err.contains(token), "{}{}", ran.out, ran.err);
        }
        ran
    }

    /// Runs what must succeed.
    fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs what must fail.
    fn fails(&self, code: i32, args: &[&str], parts: &[&str]) {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {} {}", ran.out, ran.err);
        parts.iter().for_each(|part| assert!(ran.err.contains(part), "{part:?} is not in {}", ran.err));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

fn licensed(more: &[&'static str]) -> Vec<&'static str> {
    [&PUBLISH[..], &["--license", "mit"], more].concat()
}

fn maps(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut maps: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "npy")).collect();
    maps.sort();
    maps
}

#[test]
fn an_explainer_goes_to_the_hub_and_comes_back() {
    let hub = Hub::start();
    let ada = User::of(&hub);

    let shown = ada.done(&[&PUBLISH[..], &["--dry-run"]].concat());
    for part in ["to ada/quickstart", "model.safetensors", "added", "missing: no licence", "# T-TAME for shapes_resnet"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    ada.fails(2, &PUBLISH, &["no licence", "--license"]);
    assert_eq!(hub.count("POST", ""), 0);

    let told = ada.done(&licensed(&["--private"]));
    let head = hub.head("ada/quickstart", "main").expect("a repository");
    assert!(told.contains(&format!("to hf://ada/quickstart@{head}")), "{told}");
    let card = String::from_utf8(hub.file("ada/quickstart", &head, "README.md").expect("a card")).expect("text");
    for part in
        ["license: \"mit\"", "- type: average-drop", "name: \"shapes\"", "explain hf://ada/quickstart image.jpg"]
    {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }

    let mut bob = User::of(&hub);
    // Not from the environment but from the file that `hf auth login` writes.
    bob.token = None;
    std::fs::create_dir(bob.file("hf")).expect("a folder");
    std::fs::write(bob.file("hf/token"), format!("{READ_TOKEN}\n")).expect("a file");
    bob.done(&["explain", "hf://ada/quickstart", "photo.png", "--out", "first"]);
    bob.done(&["explain", "--model", &format!("hf://ada/quickstart@{head}"), "photo.png", "--out", "second"]);
    let told = bob.done(&["inspect", "hf://ada/quickstart"]);
    assert!(told.contains("shapes_resnet") && told.contains("AD(50)"), "{told}");
    bob.offline = true;
    let before = hub.asked().len();
    bob.done(&["explain", "hf://ada/quickstart@main", "photo.png", "--out", "third"]);
    let told = bob.done(&["evaluate", "hf://ada/quickstart", "--images", "shapes:2", "--metrics", "ad@50"]);
    assert!(told.contains("2 images in"), "{told}");
    assert_eq!(hub.asked().len(), before);
    bob.done(&["explain", SHIPPED, "photo.png", "--out", "own"]);
    let own = std::fs::read(&maps(&bob.file("own"))[0]).expect("a map");
    for folder in ["first", "second", "third"] {
        let map = maps(&bob.file(folder));
        assert_eq!((map.len(), std::fs::read(&map[0]).expect("a map")), (1, own.clone()), "{folder}");
    }

    let told = ada.done(&licensed(&[]));
    assert!(told.contains("nothing to publish"), "{told}");
    assert_eq!(hub.commits("ada/quickstart", "main").len(), 2);
    let shown = ada.done(&licensed(&["--dry-run"]));
    assert_eq!(shown.matches("left as it is").count(), 4, "{shown}");
}

#[test]
fn paths_of_the_machine_are_told_before_they_are_published() {
    let hub = Hub::start();
    let ada = User::of(&hub);
    let folder = ada.file("artifact");
    std::fs::create_dir(&folder).expect("a folder");
    for name in ["model.safetensors", "config.json", "README.md", "train.yaml"] {
        let text = std::fs::read(Path::new(SHIPPED).join(name)).expect("a file");
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let run = std::fs::read_to_string(folder.join("train.yaml")).expect("text");
    let run = run.replace("train: shapes", "train: /home/ada/secret/train");
    std::fs::write(folder.join("train.yaml"), &run).expect("a file");
    let publish = ["--quiet", "publish", "artifact", "--repo", "ada/paths", "--license", "mit"];
    let warned = |ran: &Ran| {
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let told = |line: &&str| line.starts_with("warning: train.yaml") && line.contains("(data.train)");
        ran.err.lines().filter(told).filter(|line| line.contains("/home/ada/secret/train")).count()
    };
    assert_eq!(warned(&ada.run(&[&publish[..], &["--dry-run"]].concat())), 1);
    assert_eq!(hub.count("POST", ""), 0);
    // Also where nothing can be sent: it is told before.
    hub.fail("POST", "/commit/", 1, Fault::Answer(Answer::status(409)));
    let refused = ada.run(&publish);
    assert!(refused.code == Some(1) && refused.err.find("data.train") < refused.err.find("409"), "{}", refused.err);
    assert_eq!(warned(&ada.run(&publish)), 1);
    assert_eq!(hub.file("ada/paths", "main", "train.yaml").expect("a file"), run.as_bytes());
    assert_eq!(warned(&ada.run(&licensed(&["--dry-run"]))), 0);
}

#[test]
fn failures_are_told_and_leave_nothing_half_done() {
    let hub = Hub::start();
    let mut ada = User::of(&hub);
    hub.create("ada/quickstart", false);
    ada.token = Some(READ_TOKEN);
    ada.fails(1, &licensed(&[]), &["403", "write access", "Nothing was published"]);
    ada.token = Some("hf_nobodyKnowsThis");
    let ran = ada.run(&licensed(&[]));
    assert!(ran.err.contains("401") && !ran.err.contains("nobodyKnows"), "{}", ran.err);
    ada.token = Some(TOKEN);
    ada.fails(1, &licensed(&["--private"]), &["public", "--private"]);
    ada.fails(1, &["explain", "hf://ada/nothing", "photo.png"], &["no hf://ada/nothing"]);
    ada.fails(1, &["explain", "hf://ada/quickstart", "photo.png"], &["no config.json"]);
    ada.fails(2, &["explain", "hf://ada/quickstart/config.json", "photo.png"], &["whole repository"]);
    ada.fails(2, &["explain", "zoo:nothing", "photo.png"], &["quickstart"]);
    hub.fail("POST", "/commit/", 1, Fault::Answer(Answer::status(409)));
    ada.fails(1, &licensed(&[]), &["409", "run it again", "Nothing was published"]);
    assert_eq!(hub.commits("ada/quickstart", "main").len(), 1);

    hub.fail("POST", "/commit/", 1, Fault::Answer(Answer::status(429).header("Retry-After", "0")));
    hub.fail("POST", "/commit/", 1, Fault::AnswerAfter(Answer::cut()));
    ada.done(&licensed(&["--message", "Once"]));
    assert_eq!(hub.commits("ada/quickstart", "main"), ["Once", "initial commit"]);

    ada.endpoint = refused_url("");
    let shown = ada.done(&licensed(&["--dry-run"]));
    assert!(shown.contains("not compared") && shown.contains("refused"), "{shown}");
}

#[test]
fn a_stranger_s_program_is_not_run() {
    let hub = Hub::start();
    hub.create("eve/trap", false);
    let read = |name: &str| std::fs::read(Path::new(SHIPPED).join(name)).expect("a file");
    let config = String::from_utf8(read("config.json")).expect("text");
    let config = config.replace("shapes_resnet", "torchscript").replace("embedded", "hf://eve/trap/program.pt");
    let files: [(&str, &[u8]); 2] =
        [("config.json", config.as_bytes()), ("model.safetensors", &read("model.safetensors"))];
    hub.commit("eve/trap", "main", &files);
    let bob = User::of(&hub);
    bob.fails(2, &["explain", "hf://eve/trap", "photo.png"], &["TorchScript", "--weights", "trust"]);
    bob.fails(2, &["evaluate", "hf://eve/trap", "--images", "shapes:1"], &["TorchScript", "--weights"]);
    assert_eq!(hub.count("HEAD", "program.pt"), 0);
}

#[test]
fn the_zoo_is_there_without_a_network() {
    let hub = Hub::start();
    let mut bob = User::of(&hub);
    bob.offline = true;
    let listed = bob.done(&["zoo"]);
    assert!(listed.contains("quickstart") && listed.contains("shipped"), "{listed}");
    assert_eq!(bob.done(&["zoo", "list"]), listed);
    let verified = bob.done(&["zoo", "verify"]);
    assert!(verified.contains("quickstart: sound"), "{verified}");
    bob.fails(2, &["zoo", "verify", "nothing"], &["nothing", "quickstart"]);
    bob.done(&["explain", "zoo:quickstart", "photo.png", "--out", "maps"]);
    assert_eq!(maps(&bob.file("maps")).len(), 1);
    assert!(hub.asked().is_empty());
}
