//! Small runs of the quickstart, for tests of whole runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

pub const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");

/// The quickstart's run, small: 8 steps of 8 images, a checkpoint every other step.
pub fn training(output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(["--config", CONFIG, "--output"]).arg(output);
    command.args(["data.train_images=32", "data.val_images=8", "train.batch_size=8", "train.epochs=2"]);
    command.args(["train.checkpoint_every=2", "train.log_every=1", "data.augment=[flip]"]);
    command
}

/// Runs a command that must succeed.
#[allow(dead_code, reason = "not every test program has runs that succeed, in every build")]
pub fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", errors(&output));
    output
}

/// What a program wrote to standard error.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Tells why a test is skipped: on standard error, which is hidden where the test passes, and in the file that
/// `EXPLAINER_SKIPS` names, if it is set (an absolute path), so that a script can tell.
#[allow(dead_code, reason = "not every test program has a test that may be skipped")]
pub fn skip(reason: &str) {
    let line = format!("skipped: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("EXPLAINER_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("EXPLAINER_SKIPS names a file to write to");
    }
}

/// The tensors of the artifact that a run left.
#[allow(dead_code, reason = "not every test program compares runs")]
pub fn head(output: &Path) -> Vec<u8> {
    std::fs::read(output.join("artifact/model.safetensors")).expect("the run left an artifact")
}
