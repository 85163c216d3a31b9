//! A whole run of BEE: pre-trained, resumed, explained with, inspected, and refused for bad input.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the small run of the quickstart is for other tests")]
mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{errors, finish, head};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/bee_quickstart.yaml");

/// The quickstart of BEE, small: 3 steps of 4 images, a checkpoint every step.
fn bee(output: &Path) -> Command {
    let mut command = program(&["--config", CONFIG, "--quiet", "--output"]);
    command.arg(output).args(["data.train_images=12", "data.val_images=4", "train.batch_size=4", "train.log_every=1"]);
    command.args([
        "train.checkpoint_every=1",
        "explainer.curve_steps=4",
        "explainer.references=2",
        "explainer.draws=3",
    ]);
    command
}

/// The program with these arguments.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(arguments);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the program writes to standard error when it refuses these arguments as bad usage.
fn refused(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    errors(&output)
}

fn photograph(path: &Path) {
    let pixel = |x: u32, y: u32| image::Rgb([2 * x as u8, 2 * y as u8, (x ^ y) as u8]);
    image::RgbImage::from_fn(120, 100, pixel).save(path).expect("an image");
}

#[test]
fn a_run_resumes_bit_for_bit_and_its_artifact_explains() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    finish(&mut bee(&whole));

    // From an earlier checkpoint on, with the same bits.
    let step = "checkpoints/step-00000002";
    std::fs::create_dir_all(resumed.join(step)).expect("a folder");
    for name in ["mixtures.safetensors", "state.json", "state.sha256"] {
        std::fs::copy(whole.join(step).join(name), resumed.join(step).join(name)).expect("a file");
    }
    let again = errors(&finish(bee(&resumed).args(["--resume", "auto"])));
    assert!(again.contains("resumed from"), "{again}");
    assert!(head(&whole) == head(&resumed), "the mixtures differ");
    let other = folder.path().join("other");
    finish(bee(&other).args(["--seed", "7"]));
    assert!(head(&whole) != head(&other), "another seed");

    let log = std::fs::read_to_string(whole.join("metrics.jsonl")).expect("a log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(lines.iter().filter(|line| line["scores"]["INS"].is_f64()).count(), 3, "{log}");
    assert!(lines.iter().any(|line| line["validation"]["DEL"]["uniform"].is_f64()), "{log}");

    // Explained twice, the same; fine-tuned, too.
    let artifact = whole.join("artifact");
    let photo = folder.path().join("a.png");
    photograph(&photo);
    let explain = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let mut command = program(&["explain"]);
        command.arg(&artifact).arg(&photo).args(["--metric", "INS", "--draws", "5", "--quiet", "--out"]);
        let shown = text(&finish(command.arg(&out).args(more)));
        let maps = std::fs::read_dir(&out).expect("a folder").flatten().map(|entry| entry.path());
        let maps: Vec<_> = maps.filter(|path| path.extension().is_some_and(|e| e == "npy")).collect();
        assert_eq!(maps.len(), 1, "{shown}");
        assert!(shown.contains("INS") && shown.contains("best of 5 draws"), "{shown}");
        std::fs::read(&maps[0]).expect("a map")
    };
    let first = explain("first", &[]);
    assert_eq!(first, explain("again", &[]));
    explain("tuned", &["--fine-tune"]);
    explain("fixed", &["--family", "blur"]);
    explain("class", &["--class", "3"]);

    // The mixtures with their uncertainty, and in the context of an image.
    for image in [None, Some(&photo)] {
        let mut command = program(&["inspect", "--quiet"]);
        command.arg(&artifact);
        image.into_iter().for_each(|image| {
            command.arg("--image").arg(image);
        });
        let shown = text(&finish(&mut command));
        for part in ["bee (BEE)", "INS: 12 lessons", "DEL: 12 lessons", "train-data", "+-"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    let missing = refused(program(&["explain", "--metric", "SIC", "--quiet"]).arg(&artifact).arg(&photo));
    assert!(missing.contains("no mixture was learned for metric SIC") && missing.contains("INS, DEL"), "{missing}");
    let none = refused(program(&["explain", "--quiet"]).arg(&artifact).arg(&photo));
    assert!(none.contains("--metric is needed") && none.contains("INS, DEL"), "{none}");
    evaluated_as_in_a_comparison(folder.path(), &artifact);
}

/// `evaluate` and `compare` give BEE the same values on the same images; metrics that need further maps are undefined.
fn evaluated_as_in_a_comparison(folder: &Path, artifact: &Path) {
    let json = folder.join("bee.json");
    // The output of a run is taken as its artifact.
    let mut evaluate = program(&["evaluate", "--quiet", "--images", "shapes:2", "--metrics", "ad@50,max-sensitivity"]);
    evaluate.args(["--metric", "INS", "--draws", "2", "--family", "blur", "--json"]).arg(&json);
    finish(evaluate.arg(artifact.parent().expect("a run")));
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let report = read(&json);
    assert_eq!(
        (&report["metrics"][0]["defined"], &report["metrics"][1]["defined"]),
        (&2.into(), &0.into()),
        "{report}"
    );

    let config = folder.join("compare.yaml");
    let text = format!(
        "images: shapes:2\nmetrics: [ad@50]\ngallery: {{images: 0}}\nexplainers:\n  \
         - {{artifact: {}, metric: INS, draws: 2, family: blur}}\n  - {{method: uniform}}\n",
        artifact.display()
    );
    std::fs::write(&config, text).expect("a file");
    let out = folder.join("compared");
    finish(program(&["compare", "--quiet", "--config"]).arg(&config).arg("--output").arg(&out));
    let compared = read(&out.join("report.json"));
    assert_eq!(compared["explainers"][0]["figures"][0]["mean"], report["metrics"][0]["mean"]);
}

#[test]
fn bad_settings_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = |setting: &str| refused(bee(folder.path()).arg(setting));
    assert!(message("explainer.metrics=[ROAD]").contains("ROAD"));
    assert!(message("explainer.metrics=[INS, INS]").contains("twice"));
    assert!(message("explainer.theta_precision=1").contains("above 1"));
    assert!(message("explainer.steps=0").contains("1 to 10000"));
    assert!(message("backbone.taps=[layer1]").contains("explainer.sites"));
    let unknown = bee(folder.path()).arg("explainer.sites=[layer9]").output().expect("the program starts");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(errors(&unknown).contains("layer9") && errors(&unknown).contains("image"), "{}", errors(&unknown));
}
