//! `explainer-train compare` as its user meets it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{errors, finish, training};
use explainer_metrics::Results;
use explainer_train::data::shapes::{SIDE, ShapesSet, Split};
use serde_json::Value;

/// Six scenes as PNG files, of which the third is broken, and a small run of the quickstart.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let images = folder.path().join("images");
        fs::create_dir(&images).expect("a folder");
        let set = ShapesSet::new(Split::Fresh, 6, 3);
        for index in 0..set.len() {
            let image = image::RgbImage::from_raw(SIDE as u32, SIDE as u32, set.scene(index).image.to_vec());
            image.expect("a whole image").save(images.join(format!("{index}.png"))).expect("a file");
        }
        fs::write(images.join("2.png"), "no image").expect("a file");
        let place = Self { folder };
        fs::write(place.path("compare.yaml"), CONFIG).expect("a file");
        place
    }

    fn trained(self) -> Self {
        finish(training(&self.path("one")).arg("--quiet"));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(["compare", "--config", "compare.yaml"]).args(arguments).current_dir(self.folder.path());
        command.env_remove("EXPLAINER_DEVICE").output().expect("the program starts")
    }

    /// A comparison that must succeed: what it printed, and how many maps it measured.
    fn compared(&self, arguments: &[&str]) -> (String, usize) {
        let ran = self.compare(arguments);
        assert!(ran.status.success(), "{}", errors(&ran));
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        let fresh = last.split(' ').next().and_then(|count| count.parse().ok());
        (text.clone(), fresh.unwrap_or_else(|| panic!("{text}")))
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let ran = self.compare(arguments);
        assert!(!ran.status.success());
        errors(&ran)
    }

    /// The report, without times.
    fn report(&self) -> Value {
        let text = fs::read_to_string(self.path("out/report.json")).expect("a report");
        let mut report: Value = serde_json::from_str(&text).expect("JSON");
        for explainer in report["explainers"].as_array_mut().expect("a list") {
            explainer["cost"]["milliseconds"] = Value::Null;
        }
        report
    }
}

const CONFIG: &str = "\
images: images
metrics: [ad@50, insertion@4, deletion@4, sparsity]
explainers:
  - {name: 'T-TAME <i> & \"co\"', artifact: one/artifact}
  - {method: grad-cam}
  - {method: rise@4, images: 4}
  - {method: uniform}
gallery: {images: 2, metric: deletion@4}
max_broken: 0.5
batch_size: 2
output: out
";

fn values(path: &Path) -> Results {
    Results::read_csv(path).expect("values")
}

#[test]
fn a_report_is_made_and_what_is_done_is_not_done_again() {
    let place = Place::new().trained();
    let (text, fresh) = place.compared(&[]);
    assert_eq!(fresh, 5 + 5 + 3 + 5, "{text}");
    assert!(text.contains("rise@4 was measured on 3 images, not 5"), "{text}");
    assert!(text.contains("1 image could not be read: images/2.png"), "{text}");
    let report = place.report();
    assert_eq!(report["explainers"].as_array().map(Vec::len), Some(4));
    assert_eq!(report["broken"][0]["image"], "images/2.png");
    assert_eq!(report["reference"], "T-TAME <i> & \"co\"");
    let [learned, grad_cam, rise, uniform] = [0, 1, 2, 3].map(|place| report["explainers"][place].clone());
    let cost = |one: &Value| (one["cost"]["forward"].as_f64(), one["cost"]["backward"].as_f64());
    assert_eq!(
        [&learned, &grad_cam, &rise, &uniform].map(cost),
        [(Some(1.0), Some(0.0)), (Some(2.0), Some(1.0)), (Some(4.0), Some(0.0)), (Some(0.0), Some(0.0))]
    );
    assert_eq!(rise["differences"][0]["defined"], 3, "on the images that both have");
    assert_eq!(learned["differences"].as_array().map(Vec::len), Some(0));
    assert_eq!(learned["curves"]["insertion@4"].as_array().map(Vec::len), Some(5));
    assert_eq!(uniform["best"], serde_json::json!([false, false, false, false]), "it knows nothing of the classifier");

    // The same numbers as evaluate's, of the same artifact and of a method.
    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    evaluate.current_dir(place.folder.path()).args(["evaluate", "one/artifact", "--images", "list.csv", "--quiet"]);
    evaluate.args(["--metrics", "ad@50,insertion@4,deletion@4,sparsity", "--batch-size", "2", "--json", "e.json"]);
    evaluate.args(["--csv", "e.csv", "--against", "grad-cam"]);
    fs::write(place.path("list.csv"), "images/0.png\nimages/1.png\nimages/3.png\nimages/4.png\nimages/5.png\n")
        .expect("a file");
    finish(&mut evaluate);
    let evaluated: Value =
        serde_json::from_str(&fs::read_to_string(place.path("e.json")).expect("a file")).expect("JSON");
    for metric in 0..4 {
        for (ours, theirs) in [
            (&learned["figures"][metric], &evaluated["metrics"][metric]),
            (&grad_cam["figures"][metric], &evaluated["against"]["metrics"][metric]),
        ] {
            for key in ["mean", "standard_error"] {
                let [ours, theirs] = [ours, theirs].map(|figure| figure[key].as_f64().expect("a number"));
                assert!((ours - theirs).abs() < 1e-3, "{metric} {key}: {ours} {theirs}");
            }
        }
    }
    let of_reference = values(&place.path("out/results/T-TAME_i_co.csv"));
    let images: Vec<&str> = of_reference.rows.iter().map(|row| row.image.as_str()).collect();
    assert_eq!(images, ["0.png", "1.png", "3.png", "4.png", "5.png"]);

    // Nothing is left to do; the report is the same.
    let (_, fresh) = place.compared(&[]);
    assert_eq!((fresh, place.report()), (0, report.clone()));

    // A run that was killed in the middle of a line of the second explainer, before the third began.
    let journal = place.path("out/results/grad-cam.jsonl");
    let whole = fs::read(&journal).expect("a journal");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 1 + 3, "a fingerprint and three batches");
    fs::write(&journal, [lines[0], lines[1], &lines[2][..40]].concat()).expect("a file");
    fs::remove_file(place.path("out/results/rise_4.jsonl")).expect("it was there");
    let (_, fresh) = place.compared(&[]);
    assert_eq!((fresh, place.report()), (3 + 3, report), "one batch of one image was whole, the second is broken");

    // What does not follow from the same things is measured anew, and said so; the rest is kept.
    let ran = place.compare(&["seed=5", "limit=4"]);
    assert!(errors(&ran).contains("note: rise@4 is measured again: the explainer changed"), "{}", errors(&ran));
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains("\n9 maps measured now"), "the methods' alone: {text}");
}

#[test]
fn the_page_stands_alone() {
    let place = Place::new().trained();
    place.compared(&["gallery.images=9"]);
    let page = fs::read_to_string(place.path("out/report.html")).expect("a page");
    let outside: Vec<&str> = page.split(['"', '\'']).filter(|part| part.contains("://")).collect();
    assert_eq!(outside, [] as [&str; 0], "an address outside the page");
    assert!(
        !page.contains("T-TAME <i>") && page.contains("T-TAME &lt;i&gt; &amp; &quot;co&quot;"),
        "names are no HTML"
    );
    assert_eq!(page.matches("<img src=\"data:image/jpeg;base64,").count(), 5 + 5 + 5 + 3 + 5);
    assert_eq!(page.matches("not measured</td>").count(), 2, "rise@4 has three of the five images");
    assert_eq!(page.matches("<svg ").count(), 4 + 2, "a plot of cost for each metric, two of curves");
    balanced(&page);
}

/// Every element that is opened is closed, in the right order.
fn balanced(page: &str) {
    let body = |text: &str, from: &str, to: &str| {
        let (before, rest) = text.split_once(from).expect("it begins");
        let (_, after) = rest.split_once(to).expect("it ends");
        format!("{before}{after}")
    };
    let page = body(&body(page, "<style>", "</style>"), "<script>", "</script>");
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default();
        match tag {
            _ if tag.starts_with('!') || ["meta", "img"].contains(&name) || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "</{name}> closes something else"),
            _ => open.push(name),
        }
    }
    assert_eq!(open, [] as [&str; 0]);
}

#[test]
fn an_explainer_is_trained_where_its_run_has_left_none() {
    let place = Place::new();
    let quickstart = fs::read_to_string(common::CONFIG).expect("a file");
    let small = quickstart
        .replace("train_images: 2048, val_images: 256", "train_images: 16, val_images: 8")
        .replace("epochs: 2, batch_size: 32", "epochs: 1, batch_size: 8");
    fs::write(place.path("run.yaml"), format!("{small}output: made\n")).expect("a file");
    let explainers = "explainers=[{train: run.yaml}, {method: random}]";
    let first = place.compare(&[explainers, "metrics=[ad@50]", "gallery={images: 0}"]);
    assert!(first.status.success(), "{}", errors(&first));
    assert!(errors(&first).contains("run: run.yaml has left no explainer yet, it is trained first"));
    let written = || fs::metadata(place.path("made/artifact/model.safetensors")).and_then(|file| file.modified());
    let before = written().expect("an artifact");
    let (_, fresh) = place.compared(&[explainers, "metrics=[ad@50]", "gallery={images: 0}"]);
    assert_eq!((fresh, written().expect("an artifact")), (0, before));
}

#[test]
fn every_kind_of_explainer_has_its_cost() {
    let place = Place::new();
    let few = ["--quiet", "data.train_images=8", "data.val_images=4", "train.batch_size=4"];
    let auxiliary = "auxiliary={name: resnet18, weights: 'random:0'}";
    finish(training(&place.path("ptame")).args(few).args(["explainer={method: ptame}", auxiliary]));
    let bee = "explainer={method: bee, metrics: [INS, DEL], sites: [layer2], steps: 4, draws: 9, curve_steps: 4, references: 2}";
    finish(training(&place.path("bee")).args(few).args([bee, "train.epochs=1"]));

    let needed = "explainers=[{artifact: bee/artifact}, {artifact: ptame/artifact}]";
    assert!(place.refused(&[needed]).contains("bee: the key metric is needed: one of INS, DEL"));
    let explainers = "explainers=[{artifact: bee/artifact, metric: DEL, draws: 2}, {artifact: ptame/artifact}]";
    place.compared(&[explainers, "metrics=[ad@50, max-sensitivity]", "limit=2", "gallery={images: 1}"]);
    let report = place.report();
    let [bee, ptame] = [0, 1].map(|place| report["explainers"][place].clone());
    assert!(bee["what"].as_str().is_some_and(|what| what.contains("BEE for DEL, the best of 2 draws")), "{bee}");
    // Two draws of four points, each with a backward pass; what scores the maps and finds the context comes on top.
    assert_eq!(bee["cost"]["backward"], 8.0);
    assert!(bee["cost"]["forward"].as_f64().is_some_and(|passes| passes > 8.0), "{bee}");
    assert_eq!(bee["figures"][1]["undefined"], 2, "it is not asked again");
    assert_eq!([&ptame["cost"]["forward"], &ptame["cost"]["second"]], [1.0, 1.0]);
    assert_eq!(ptame["figures"][1]["defined"], 2);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = Place::new().trained();
    let with = |explainers: &str| place.refused(&[&format!("explainers=[{explainers}]")]);
    let missing = with("{artifact: checkpoints/two/artifact}, {artifact: one/artifact}, {artifact: three}");
    assert!(missing.contains("two: there is no explainer in checkpoints/two/artifact; train it with"), "{missing}");
    assert!(missing.contains("three: there is no explainer in three"), "{missing}");

    // An explainer of another classifier, going by the SHA-256 of its weights.
    fs::create_dir_all(place.path("other/artifact")).expect("a folder");
    for file in ["model.safetensors", "config.json"] {
        fs::copy(place.path("one/artifact").join(file), place.path("other/artifact").join(file)).expect("a copy");
    }
    let config = place.path("other/artifact/config.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&config).expect("a file")).expect("JSON");
    json["backbone"]["sha256"] = "ab".repeat(32).into();
    fs::write(&config, json.to_string()).expect("a file");
    let problem = with("{artifact: one/artifact}, {artifact: other/artifact}");
    assert!(problem.contains("other explains shapes_resnet (SHA-256 abababababab)"), "{problem}");
    assert!(problem.contains("but one explains shapes_resnet (SHA-256"), "{problem}");

    let problem = with("{artifact: one/artifact}, {method: rollout}");
    assert!(problem.contains("rollout: rollout needs the tokens"), "{problem}");
    let problem = with("{artifact: one/artifact, draws: 3}, {method: edges}");
    assert!(problem.contains("one: the keys metric, draws and family are BEE's; remove them"), "{problem}");
    let problem = place.refused(&["images=shapes:0"]);
    assert!(problem.contains("expected a whole number of scenes, 1 or more"), "{problem}");
    let problem = place.refused(&["max_broken=0"]);
    assert!(problem.contains("1 of 6 images are broken"), "{problem}");
}
