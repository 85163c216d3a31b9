//! Whole runs of the fast masking model: in two phases, resumed within and between them, explained with, measured, and
//! refused for bad input.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, Tensor};
use common::{CONFIG, errors, finish, head, kill_after};
use explainer_zoo::explain::{Explain, ExplainBatch, Explainer, Targets};

/// The quickstart, small, with a masking model: 3 steps of 8 images for the selector, 4 steps of 4 for the decoder, a
/// checkpoint after every step.
fn training(output: &Path) -> Command {
    let mut command = common::training(output);
    command.args(["explainer={method: masking_model, width: 4, loss: {preset: released}}"]);
    command.args(["data.train_images=24", "data.val_images=4", "train.batch_size=4"]);
    command.args(["explainer.phases.selector={steps: 3, batch_size: 8}"]);
    command.args(["explainer.phases.decoder={steps: 4, batch_size: 4}", "train.checkpoint_every=1", "train.keep=100"]);
    command
}

/// The program with these arguments.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(arguments);
    command
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn a_run_resumes_bit_for_bit_within_and_between_its_phases() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    finish(&mut training(&whole));
    // In the selector's phase, at its end, in the decoder's phase, at its end.
    for step in [2, 3, 4, 5, 7] {
        let resumed = folder.path().join(step.to_string());
        let from = whole.join(format!("checkpoints/step-{step:08}"));
        finish(training(&resumed).arg("--resume").arg(&from));
        assert!(head(&whole) == head(&resumed), "resumed from step {step}");
    }

    let log = std::fs::read_to_string(whole.join("metrics.jsonl")).expect("a log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let phase = |name: &str| lines.iter().filter(|line| line["phase"] == name).collect::<Vec<_>>();
    assert_eq!((phase("selector").len(), phase("decoder").len()), (3, 4), "{log}");
    assert!(phase("selector").iter().all(|line| line["accuracy"].is_number() && line["loss"].is_number()), "{log}");
    for name in ["loss", "preserve", "destroy", "area", "tv", "empty", "agreement", "images_per_second"] {
        assert!(phase("decoder").iter().all(|line| line[name].is_number()), "{name} in {log}");
    }
    assert_eq!(phase("decoder")[0]["step"], 4, "steps are counted through");
    let validations = lines.iter().filter(|line| line["validation"].is_object());
    assert!(validations.clone().count() > 0 && validations.into_iter().all(|line| line["step"].as_u64() > Some(3)));
}

#[test]
fn a_run_killed_in_either_phase_resumes_to_the_same_head_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    // 6 steps an epoch of the decoder: no validation lies between the kill and the checkpoint before it.
    let training = |output: &Path| {
        let mut command = training(output);
        command.args(["explainer.phases.selector.steps=4", "explainer.phases.decoder.steps=6"]);
        command.arg("train.checkpoint_every=2");
        command
    };
    finish(&mut training(&whole));
    for steps in [3, 7] {
        let killed = folder.path().join(steps.to_string());
        kill_after(steps, &mut training(&killed));
        assert!(!killed.join("artifact").exists());
        let resumed = errors(&finish(training(&killed).args(["--resume", "auto"])));
        assert!(resumed.contains("resumed from"), "{resumed}");
        assert!(head(&whole) == head(&killed), "killed after {steps} steps");
    }
}

#[test]
fn an_artifact_explains_and_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    finish(&mut training(&run));
    let artifact = run.join("artifact");
    let about = json(&artifact.join("config.json"));
    assert_eq!((&about["method"], &about["masking"]), (&"masking_model".into(), &"infill".into()));
    assert_eq!(about["taps"], serde_json::json!(["layer1", "layer2", "layer3"]));
    assert_eq!(about["head"]["sides"], serde_json::json!([24, 12, 6]));
    assert!(run.join("contact_sheet.png").is_file());

    let explainer = Explainer::open(&artifact).expect("an explainer");
    let pixels = Tensor::<4>::full([2, 3, 96, 96], 0.4, &Device::flex());
    let batch = ExplainBatch::from_pixels(pixels, explainer.preprocessing());
    let [one, all] = [1, 3].map(|top| explainer.explain_batch(&batch, Targets::Top(top)).expect("maps").maps);
    assert_eq!((one.dims(), all.dims()), ([2, 1, 24, 24], [2, 3, 24, 24]));
    let values = |maps: Tensor<4>| maps.into_data().iter::<f32>().collect::<Vec<_>>();
    let (one, first) = (values(one), values(all.narrow(1, 0, 1)));
    assert!(one.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-5 && (0.0..=1.0).contains(a)));

    let photographs = folder.path().join("photographs");
    std::fs::create_dir(&photographs).expect("a folder");
    let pixel = |x: u32, y: u32| image::Rgb([2 * x as u8, 2 * y as u8, (x ^ y) as u8]);
    image::RgbImage::from_fn(120, 100, pixel).save(photographs.join("a.png")).expect("an image");
    let artifact = artifact.to_str().expect("a path");
    let photographs = photographs.to_str().expect("a path");
    finish(program(&["explain", artifact, photographs, "--top-k", "2", "--quiet", "--out"]).arg(&out));
    assert_eq!(std::fs::read_dir(&out).expect("a folder").count(), 6, "three files for each of two classes");
    finish(&mut program(&["evaluate", artifact, "--images", photographs, "--quiet"]));
    let inspected = finish(&mut program(&["inspect", artifact]));
    let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(text.contains("masking_model (Fast masking model)") && text.contains("24 x 24"), "{text}");
}

#[test]
fn without_a_selector_there_is_one_phase() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(training(folder.path()).args(["explainer.class_selector=false", "explainer.activation=sigmoid"]));
    let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("a log");
    assert!(log.contains("\"phase\":\"decoder\"") && !log.contains("\"phase\":\"selector\""), "{log}");
    assert!(folder.path().join("checkpoints/step-00000004").is_dir());
    let model = head(folder.path());
    assert!(!String::from_utf8_lossy(&model[..4096]).contains("selector."));
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("run");
    for (argument, code, expected) in [
        ("backbone.taps=[layer1, layer3]", 2, "tap layer3 has maps of 6 x 6 cells"),
        ("backbone.taps=[layer3]", 2, "at least two convolutional maps"),
        ("backbone.taps=[layer1, layer9]", 1, "layer9"),
        // More than there are images: the phase has no batch, and is not passed over.
        ("explainer.phases.selector.batch_size=25", 1, "25"),
    ] {
        let ran = training(&output).arg(argument).output().expect("the program starts");
        let text = errors(&ran);
        assert_eq!(ran.status.code(), Some(code), "{argument}: {text}");
        assert!(text.contains(expected) && !text.contains("panicked"), "{argument}: {text}");
    }
    let import = ["import", CONFIG, "--config", CONFIG, "explainer={method: masking_model}", "--output"];
    let ran = program(&import).arg(folder.path().join("imported")).output().expect("the program starts");
    let text = errors(&ran);
    assert!(!ran.status.success() && text.contains("masking_model, which has no attention head"), "{text}");
}

#[test]
fn a_killed_run_that_keeps_clean_passes_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let training = |output: &Path| {
        let mut command = training(output);
        command.args(["data.augment=[]", "data.cache=true"]);
        command
    };
    finish(&mut training(&whole));
    kill_after(5, &mut training(&killed)); // in the second phase, whose images the first one has seen
    finish(training(&killed).args(["--resume", "auto"]));
    assert!(head(&whole) == head(&killed));
}
