//! Whole runs of the program: killed and resumed, and refused for bad input.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");

/// The quickstart's run, small: 8 steps of 8 images, a checkpoint every other step.
fn training(output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(["--config", CONFIG, "--output"]).arg(output);
    command.args(["data.train_images=32", "data.val_images=8", "train.batch_size=8", "train.epochs=2"]);
    command.args(["train.checkpoint_every=2", "train.log_every=1", "data.augment=[flip]"]);
    command
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    output
}

fn head(output: &Path) -> Vec<u8> {
    std::fs::read(output.join("artifact/model.safetensors")).expect("the run left an artifact")
}

#[test]
fn a_killed_run_resumes_to_the_same_head_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    finish(&mut training(&whole));

    let mut child = training(&killed).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let steps = lines.filter(|line| line.contains("images/s")).take(5).count();
    child.kill().expect("it runs still"); // SIGKILL: no chance to tidy up
    let status = child.wait().expect("it ends");
    assert!(steps == 5 && !status.success(), "{steps} steps, {status}");
    assert!(!killed.join("artifact").exists());

    let resumed = finish(training(&killed).args(["--resume", "auto"]));
    let text = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(text.contains("resumed from"), "{text}");
    assert_eq!(head(&whole), head(&killed));
}

#[test]
fn an_output_folder_with_checkpoints_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(&mut training(folder.path()));
    let again = training(folder.path()).output().expect("the program starts");
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("--resume auto"), "{text}");
    // Another configuration's checkpoint is refused, not mixed in.
    let other = training(folder.path()).args(["--resume", "auto", "train.seed=7"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && text.contains("another configuration"), "{text}");
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
        (vec!["device=cuda:0"], 1, "--features cuda"),
        (vec![blocked.as_str()], 1, "file/run"),
    ] {
        let output = folder.path().join("output");
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(["--config", CONFIG]).args(&arguments);
        if !arguments[0].starts_with("output=") {
            command.arg("--output").arg(output);
        }
        let result = command.output().expect("the program starts");
        let text = String::from_utf8_lossy(&result.stderr).into_owned();
        assert_eq!(result.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {expected:?} is not in {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
