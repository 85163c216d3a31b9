//! Whole runs of the program: killed and resumed, and refused for bad input.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{CONFIG, errors, finish, head, kill_after, training, wait_for_steps};
use explainer_train::data::Order;

#[test]
fn a_killed_run_resumes_to_the_same_head_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    // 8 steps an epoch: no validation lies between the kill and the checkpoint before it.
    let training = |output: &Path| {
        let mut command = training(output);
        command.arg("data.train_images=64");
        command
    };
    finish(&mut training(&whole));

    kill_after(5, &mut training(&killed));
    assert!(!killed.join("artifact").exists());

    let resumed = errors(&finish(training(&killed).args(["--resume", "auto"])));
    assert!(resumed.contains("resumed from"), "{resumed}");
    assert_eq!(head(&whole), head(&killed));
}

/// `fixtures/format_3` is a checkpoint of the program at commit 45abc61, whose `state.json` has a hash of the configuration in
/// place of the configuration. A new key of the configuration that is serialised at its default breaks this test.
#[test]
fn a_checkpoint_of_format_3_resumes_and_is_refused_with_other_settings() {
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format_3/step-00000002");
    let folder = tempfile::tempdir().expect("a folder");
    let training = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(["--config", CONFIG, "--threads", "1", "--output"]).arg(folder.path().join(name));
        command.args(["explainer={method: lcam_img}", "backbone.taps=[layer1]", "optimizer={name: sgd, lr: 0.05}"]);
        command.args(["data.train_images=8", "data.val_images=4", "train.batch_size=4", "train.epochs=2"]);
        command.args(["train.log_every=1"]);
        command
    };
    finish(&mut training("whole"));
    finish(training("resumed").args(["--resume", checkpoint]));
    let losses = ["whole", "resumed"].map(|name| logged(&folder.path().join(name), "loss"));
    assert_eq!(losses[1].iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 4]);
    for ((_, whole), (step, resumed)) in losses[0][2..].iter().zip(&losses[1]) {
        assert!((whole - resumed).abs() < 1e-3 * whole, "step {step}: {resumed}, {whole} in the run from the start");
    }
    let other = training("other").args(["--resume", checkpoint, "train.epochs=3"]).output().expect("it starts");
    let text = errors(&other);
    assert!(!other.status.success() && text.contains("format 3 has a hash"), "{text}");
}

/// The values of a term that a run has logged, with the steps they are of.
fn logged(output: &Path, term: &str) -> Vec<(u64, f64)> {
    let log = std::fs::read_to_string(output.join("metrics.jsonl")).expect("a log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines.filter_map(|line| Some((line["step"].as_u64()?, line[term].as_f64()?))).collect()
}

#[test]
fn a_fuser_of_zeros_starts_with_flat_maps_and_learns() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str| folder.path().join(name);
    let zero = |output: &Path| {
        let mut command = training(output);
        command.arg("explainer.fuse_init=zero");
        command
    };
    finish(&mut zero(&of("zero")));
    finish(&mut training(&of("uniform")));
    // Maps of 0.5 everywhere, as the area term sees them: mean((m + 5e-4)^0.3).
    let flat = 0.5005_f64.powf(0.3);
    let off = |run: &str| logged(&of(run), "area").iter().map(|(_, area)| (area - flat).abs()).collect::<Vec<_>>();
    let (zeros, uniforms) = (off("zero"), off("uniform"));
    assert!(zeros[0] < 1e-4 && uniforms[0] > 1e-3, "{zeros:?}, {uniforms:?}");
    assert!(zeros[7] > 1e-3, "nothing was learned: {zeros:?}");

    kill_after(5, &mut zero(&of("killed")));
    let other = training(&of("killed")).args(["--resume", "auto"]).output().expect("the program starts");
    let text = errors(&other);
    assert!(text.contains(r#"explainer.fuse_init: "zero" then, the default now"#), "{text}");
    finish(zero(&of("killed")).args(["--resume", "auto"]));
    assert_eq!(head(&of("zero")), head(&of("killed")));
}

#[test]
fn kept_clean_passes_change_a_run_by_their_rounding_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str| folder.path().join(name);
    let training = |output: &Path, cache: bool| {
        let mut command = training(output);
        command.args(["data.augment=[]", &format!("data.cache={cache}"), "train.checkpoint_every=2"]);
        command
    };
    finish(&mut training(&of("whole"), true));
    assert!(!of("whole").join("clean.cache").exists(), "it is of no use any more");

    // In the second epoch, which reads what the first has kept.
    kill_after(5, &mut training(&of("killed"), true));
    assert!(of("killed").join("clean.cache").exists());
    finish(training(&of("killed"), true).args(["--resume", "auto"]));
    assert_eq!(head(&of("whole")), head(&of("killed")));

    finish(&mut training(&of("plain"), false));
    let (kept, plain) = (logged(&of("whole"), "loss"), logged(&of("plain"), "loss"));
    assert_eq!([kept.len(), plain.len()], [8, 8]);
    for ((step, kept), (_, plain)) in kept.iter().zip(&plain) {
        assert!((kept - plain).abs() < 1e-2 * plain, "step {step}: {kept}, {plain} without a cache");
    }
    assert_ne!(kept, plain, "half precision rounds");
}

/// The small run with a validation after each epoch of 4 steps, which takes long unless a limit is added.
#[cfg(unix)]
fn validating(output: &Path) -> Command {
    let mut command = training(output);
    command.args(["data.val_images=4096", "train.checkpoint_every=100"]);
    command
}

/// How many images a validation that is to come to its end looks at: no part of what makes a run the same.
#[cfg(unix)]
const LIMIT: &str = "train.validate_images=16";

#[cfg(unix)]
#[test]
fn a_run_stopped_in_its_validation_comes_back_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    finish(validating(&whole).args(["--quiet", LIMIT]));

    let child = validating(&stopped).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    wait_for_steps(&mut child, 4);
    let signal = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
    assert!(signal.expect("a shell").success());
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("after step 4 of 8, before its validation"), "{text}");

    let resumed = errors(&finish(validating(&stopped).args(["--quiet", "--resume", "auto", LIMIT])));
    assert!(resumed.contains("step-00000004"), "{resumed}");
    assert_eq!(head(&whole), head(&stopped));
    let log = std::fs::read_to_string(stopped.join("metrics.jsonl")).expect("a log");
    assert_eq!(log.lines().filter(|line| line.contains("\"validation\"")).count(), 2, "{log}");
}

/// Six images, `0.png` to `5.png`, in a folder of their own. Training with batches of two, those of the last batch
/// cannot be read.
fn photographs(folder: &Path) {
    std::fs::create_dir(folder).expect("a folder");
    let path = |index: usize| folder.join(format!("{index}.png"));
    for index in 0..6 {
        let pixel = |x: u32, y: u32| image::Rgb([2 * x as u8, 2 * y as u8, 40 * index as u8]);
        image::RgbImage::from_fn(100, 96, pixel).save(path(index)).expect("an image");
    }
    for index in &Order::new(6, 0, 0).indices()[4..] {
        std::fs::write(path(*index), "no photograph").expect("a file");
    }
}

/// A run of one epoch on such images.
fn on_photographs(images: &Path, output: &Path) -> Command {
    let mut command = training(output);
    for key in ["train", "val"] {
        command.arg(format!("data.{key}={}", images.display()));
    }
    command.args(["data.max_broken=0.5", "train.batch_size=2", "train.epochs=1"]);
    command
}

#[test]
fn a_run_whose_last_images_are_broken_comes_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, output) = (folder.path().join("images"), folder.path().join("run"));
    photographs(&images);
    let ran = finish(&mut on_photographs(&images, &output));
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let row = |key: &str, value: &str| text.lines().any(|line| line.starts_with(key) && line.contains(value));
    assert!(row("steps", "2") && row("skipped steps", "1"), "{text}");
    assert!(output.join("checkpoints/step-00000003").is_dir());

    let about = std::fs::read_to_string(output.join("artifact/config.json")).expect("an artifact");
    let about: serde_json::Value = serde_json::from_str(&about).expect("JSON");
    for (figure, expected) in [("training steps", 2.0), ("training images", 6.0), ("validation images", 4.0)] {
        assert_eq!(about["figures"][figure].as_f64(), Some(expected), "{figure}");
    }
}

#[test]
fn a_run_without_a_readable_image_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = folder.path().join("images");
    photographs(&images);
    for index in 0..6 {
        std::fs::write(images.join(format!("{index}.png")), "no photograph").expect("a file");
    }
    let ran = on_photographs(&images, &folder.path().join("run")).arg("data.max_broken=1").output();
    let text = errors(&ran.expect("the program starts"));
    assert!(text.contains("not one of the training images") && text.contains(".png"), "{text}");
}

#[test]
fn a_run_goes_on_with_its_own_images_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, output) = (folder.path().join("images"), folder.path().join("run"));
    photographs(&images);
    finish(&mut on_photographs(&images, &output));
    // Wherever they lie, and by whatever path they are named.
    std::fs::rename(&images, folder.path().join("moved")).expect("a folder");
    let mut moved = on_photographs(Path::new("moved"), &output);
    finish(moved.current_dir(folder.path()).args(["--resume", "auto"]));
    std::fs::rename(folder.path().join("moved"), &images).expect("a folder");
    std::fs::rename(images.join("3.png"), images.join("7.png")).expect("a file"); // as many as before
    let resumed = on_photographs(&images, &output).args(["--resume", "auto"]).output().expect("the program starts");
    let text = errors(&resumed);
    assert_eq!(resumed.status.code(), Some(1), "{text}");
    assert!(text.contains("other training images") && text.contains("with other names"), "{text}");
}

#[test]
fn an_output_folder_with_checkpoints_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(&mut training(folder.path()));
    let again = training(folder.path()).output().expect("the program starts");
    let text = errors(&again);
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("--resume auto"), "{text}");
    // Another configuration's checkpoint is refused, not mixed in.
    let other = training(folder.path()).args(["--resume", "auto", "train.seed=7"]).output().expect("it starts");
    let text = errors(&other);
    assert!(!other.status.success() && text.contains("train.seed: 0 then, 7 now"), "{text}");
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let empty = format!("data.train={}", folder.path().join("empty").display());
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "in the way").expect("a file");
    let truncated = folder.path().join("weights.safetensors");
    std::fs::write(&truncated, [9, 0, 0, 0, 0, 0, 0, 0, b'{']).expect("a file");
    let cut = format!("backbone.weights={}", truncated.display());
    let blocked = format!("output={}/run", blocked.display());
    for (arguments, code, expected) in [
        (vec!["trian.epochs=1"], 2, "trian"),
        (vec!["train.epochs=many"], 2, "train.epochs=many"),
        (vec!["backbone.name=resnet51", "backbone.weights=random"], 1, "resnet18"),
        (vec!["backbone.taps=[layer9]"], 1, "layer9"),
        (vec!["backbone.weights=nowhere.safetensors"], 1, "nowhere.safetensors"),
        (vec![cut.as_str()], 1, "weights.safetensors"),
        (vec![empty.as_str()], 1, "empty"),
        #[cfg(not(feature = "cuda"))]
        (vec!["device=cuda:0"], 2, "--features cuda"),
        (vec![blocked.as_str()], 1, "file/run"),
    ] {
        let output = folder.path().join("output");
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(["--config", CONFIG]).args(&arguments);
        if !arguments[0].starts_with("output=") {
            command.arg("--output").arg(output);
        }
        let result = command.output().expect("the program starts");
        let text = errors(&result);
        assert_eq!(result.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {expected:?} is not in {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
