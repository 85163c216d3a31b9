//! A whole run of P-TAME: trained, resumed, explained with, measured, and refused for bad input.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, Tensor, s};
use burn::train::Interrupter;
use common::{CONFIG, errors, finish, head, training};
use explainer_train::config::Config;
use explainer_train::fit::{self, ResumeFrom};
use explainer_zoo::explain::{Explain, ExplainBatch, Explainer, Explanations, Targets};
use safetensors::tensor::{Dtype, TensorView};

/// ResNet-18 with drawn weights lends its feature maps, of 24, 12, 6 and 3 cells a side, to explain the classifier of
/// the procedural images. It has 1000 classes, the explained one 10.
const AUXILIARY: &str = "auxiliary={name: resnet18, weights: 'random:0'}";

/// The quickstart, small, with P-TAME: 4 steps of 4 images.
fn ptame(output: &Path) -> Command {
    let mut command = training(output);
    command.args(["explainer={method: ptame}", AUXILIARY, "data.train_images=8", "data.val_images=4"]);
    command.args(["train.batch_size=4", "--quiet"]);
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

/// A photograph in a folder of its own.
fn photograph(folder: &Path) {
    std::fs::create_dir(folder).expect("a folder");
    let pixel = |x: u32, y: u32| image::Rgb([2 * x as u8, 2 * y as u8, (x ^ y) as u8]);
    image::RgbImage::from_fn(120, 100, pixel).save(folder.join("a.png")).expect("an image");
}

#[test]
fn a_run_makes_an_artifact_that_explains_and_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    finish(&mut ptame(&whole));

    // From its first checkpoint on, with the same bits.
    let step = "checkpoints/step-00000002";
    std::fs::create_dir_all(resumed.join(step)).expect("a folder");
    for name in ["head.bpk", "optimizer.bpk", "state.json", "state.sha256"] {
        std::fs::copy(whole.join(step).join(name), resumed.join(step).join(name)).expect("a file");
    }
    let again = errors(&finish(ptame(&resumed).args(["--resume", "auto"])));
    assert!(again.contains("resumed from"), "{again}");
    assert_eq!(head(&whole), head(&resumed));
    // Another auxiliary's checkpoint is none of this run.
    let other = ptame(&resumed).args(["--resume", "auto", "auxiliary.taps=[layer2, layer3]"]).output();
    let text = errors(&other.expect("the program starts"));
    assert!(text.contains("other settings") && text.contains("auxiliary.taps"), "{text}");

    let artifact = whole.join("artifact");
    let about = json(&artifact.join("config.json"));
    assert_eq!((&about["method"], &about["head"]["upsampling"]), (&"ptame".into(), &"doubling".into()));
    assert_eq!(about["head"]["fuse_bias"], false);
    assert_eq!(about["head"]["map_size"], serde_json::json!([24, 24]));
    assert_eq!(about["taps"], serde_json::json!(["layer1", "layer2", "layer3", "layer4"]));
    assert_eq!((&about["head"]["classes"], &about["auxiliary"]["classes"]), (&10.into(), &1000.into()));
    assert_eq!(
        (&about["backbone"]["name"], &about["auxiliary"]["name"]),
        (&"shapes_resnet".into(), &"resnet18".into())
    );
    assert_eq!(about["passes"], serde_json::json!({"forward": 1, "backward": 0, "auxiliary_forward": 1}));
    assert!(about["figures"]["AD(50)"].is_number(), "{about}");
    assert!(whole.join("contact_sheet.png").is_file());
    let run = std::fs::read_to_string(artifact.join("train.yaml")).expect("the run");
    assert!(run.contains("auxiliary:") && run.contains("random:0"), "{run}");

    let path = |path: &Path| path.display().to_string();
    let (images, maps) = (folder.path().join("images"), folder.path().join("maps"));
    photograph(&images);
    let out = finish(&mut program(&["explain", &path(&artifact), &path(&images), "--out", &path(&maps), "--quiet"]));
    // Nobody can tell drawn weights from others; the classifier's own are verified.
    assert_eq!(errors(&out).matches("warning: cannot tell whether resnet18 has the weights").count(), 1);
    assert_eq!(errors(&out).matches("warning").count(), 1, "{}", errors(&out));
    assert_eq!(std::fs::read_dir(&maps).expect("maps").count(), 3, "overlay, map, array");

    let figures = folder.path().join("figures.json");
    let evaluate = ["evaluate", &path(&artifact), "--images", &path(&images), "--json", &path(&figures), "--quiet"];
    finish(&mut program(&evaluate));
    assert_eq!(json(&figures)["images"], 1);
    let shown = finish(&mut program(&["inspect", &path(&artifact)]));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in
        ["ptame (P-TAME)", "resnet18, 1000 classes", "random:0", "layer4 (512 channels)", "1 forward pass of the"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }

    the_map_is_the_auxiliarys(&artifact);
    what_does_not_belong_together_is_refused(folder.path(), &artifact, &path(&images));
}

/// One image of 96 pixels.
fn pixels() -> Tensor<4> {
    Tensor::<4>::full([1, 3, 96, 96], 0.25, &Device::flex()).slice_fill(s![.., 0, 20..60, 30..70], 1.0)
}

fn explain(explainer: &Explainer) -> Explanations {
    let batch = ExplainBatch::from_pixels(pixels(), explainer.preprocessing());
    explainer.explain_batch(&batch, Targets::Top(1)).expect("maps")
}

/// The same image gives another map with another auxiliary and the same classifier; the class is the classifier's.
fn the_map_is_the_auxiliarys(artifact: &Path) {
    let explained = |auxiliary: Option<&str>| {
        let builder = Explainer::builder(artifact);
        let builder = auxiliary.into_iter().fold(builder, |builder, weights| builder.auxiliary_weights(weights));
        let explained = explain(&builder.open().expect("an explainer"));
        (explained.logits.into_data(), explained.maps.into_data())
    };
    let (own, other) = (explained(None), explained(Some("random:1")));
    assert_eq!(own.0, other.0, "logits");
    assert_ne!(own.1, other.1, "maps");
    assert_eq!(own, explained(None));
}

#[test]
fn an_artifact_explains_as_the_trained_head_did_in_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = ["data.train_images=4", "data.val_images=2", "train.batch_size=4", "train.epochs=1"];
    let overrides = [&["explainer={method: ptame}", AUXILIARY][..], &images].concat();
    let overrides: Vec<String> = overrides.into_iter().map(String::from).collect();
    let mut config = Config::load(Path::new(CONFIG), &overrides).expect("a configuration");
    config.output = Some(folder.path().into());
    let finished = fit::run(&config, &ResumeFrom::Start, true, &Interrupter::new()).expect("a run");
    let artifact = finished.artifact.clone().expect("an artifact");
    let (clean, maps) = finished.explain(pixels());
    let explained = explain(&Explainer::open(&artifact).expect("an explainer"));
    assert_eq!(clean.logits.into_data(), explained.logits.into_data());
    assert_eq!(maps.into_data(), explained.maps.into_data());
}

/// Weights, classes, options and taps that are not this explainer's.
fn what_does_not_belong_together_is_refused(folder: &Path, artifact: &Path, images: &str) {
    let refused = |arguments: &[&str]| {
        let output = program(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", errors(&output));
        errors(&output)
    };
    let at = artifact.display().to_string();
    let (config, about) = (artifact.join("config.json"), json(&artifact.join("config.json")));
    let edited = |key: &str, value: serde_json::Value| {
        let mut about = about.clone();
        *about.pointer_mut(key).expect("a key") = value;
        std::fs::write(&config, about.to_string()).expect("a file");
    };

    edited("/auxiliary/classes", 10.into());
    let text = refused(&["explain", &at, images]);
    assert!(text.contains("another auxiliary") && text.contains("classes: found 1000, expected 10"), "{text}");

    // A file in the place of the drawn weights, of which the explainer was trained with another.
    let file = folder.join("other.safetensors");
    let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("a tensor");
    std::fs::write(&file, safetensors::serialize([("fc.bias", view)], None).expect("a file")).expect("a file");
    let file = file.display().to_string();
    edited("/auxiliary/sha256", "ab".repeat(32).into());
    let text = refused(&["explain", &at, images, "--auxiliary-weights", &file]);
    assert!(text.contains("other.safetensors") && text.contains("abab"), "{text}");
    edited("/auxiliary/weights", "nowhere.safetensors".into());
    let text = refused(&["evaluate", &at, "--images", images]);
    assert!(
        text.contains("weights of resnet18 from nowhere.safetensors") && text.contains("--auxiliary-weights"),
        "{text}"
    );

    edited("/preprocessing/crop", 84.into()); // 21 and 11 cells
    let text = refused(&["explain", &at, images]);
    assert!(text.contains("layer2") && text.contains("11 cells") && text.contains("21"), "{text}");
    std::fs::write(&config, about.to_string()).expect("a file");
}

#[test]
fn a_place_for_weights_that_nothing_needs_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(training(folder.path()).args(["data.train_images=8", "data.val_images=2", "--quiet"]));
    let artifact = folder.path().join("artifact").display().to_string();
    let ran = program(&["explain", &artifact, "a.png", "--auxiliary-weights", "b.pth"]).output().expect("it starts");
    let text = errors(&ran);
    assert!(ran.status.code() == Some(1) && text.contains("--auxiliary-weights: ttame explainers have no"), "{text}");
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let section = |section: &str| format!("auxiliary={{{section}}}");
    for (auxiliary, code, expected) in [
        (section("name: resnet51, weights: random"), 1, "as the auxiliary: unknown backbone \"resnet51\""),
        (
            section("name: resnet18, weights: random, taps: [layer9]"),
            1,
            "as the auxiliary: backbone resnet18 has no tap",
        ),
        (section("name: resnet18, weights: nowhere.pth"), 1, "as the auxiliary: "),
        (section("name: vit_small_patch14_dinov2, weights: random"), 1, "dinov2 takes images of 224 pixels only"),
        (
            section("name: resnet18, weights: random, taps: [layer3, layer1]"),
            2,
            "auxiliary.taps: on images of 96 pixels",
        ),
        (section("name: resnet18"), 2, "weights"),
        (section("name: resnet18, weights: random, classes: a.txt"), 2, "classes"),
        ("explainer.fuse_bias=false".into(), 2, "auxiliary: required"),
    ] {
        let ran = training(&folder.path().join("output")).args(["explainer={method: ptame}", &auxiliary]).output();
        let ran = ran.expect("the program starts");
        let text = errors(&ran);
        assert_eq!(ran.status.code(), Some(code), "{auxiliary}: {text}");
        assert!(text.contains(expected), "{auxiliary}: {expected:?} is not in {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn kept_clean_passes_are_those_of_the_auxiliary_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let losses = |cache: bool| {
        let output = folder.path().join(cache.to_string());
        finish(ptame(&output).args(["data.augment=[]", &format!("data.cache={cache}")]));
        let log = std::fs::read_to_string(output.join("metrics.jsonl")).expect("a log");
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.filter_map(|line| line["loss"].as_f64()).collect::<Vec<_>>()
    };
    let (kept, plain) = (losses(true), losses(false));
    assert_eq!([kept.len(), plain.len()], [4, 4]);
    for (kept, plain) in kept.iter().zip(&plain) {
        assert!((kept - plain).abs() < 1e-2 * plain, "{kept}, {plain} without a cache");
    }
}
