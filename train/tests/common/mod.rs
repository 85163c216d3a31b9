//! Small runs of the quickstart, for tests of whole runs.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");

/// The quickstart's run, small: 8 steps of 8 images, a checkpoint every other step.
#[allow(dead_code, reason = "not every test program runs the program")]
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

/// Waits until a run has told of `steps` steps, one a line.
#[allow(dead_code, reason = "not every test program interrupts runs")]
pub fn wait_for_steps(child: &mut Child, steps: usize) {
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert_eq!(lines.filter(|line| line.contains("images/s")).take(steps).count(), steps);
}

/// Starts a run and kills it, with no chance to tidy up (SIGKILL), as soon as it has told of `steps` steps.
#[allow(dead_code, reason = "not every test program interrupts runs")]
pub fn kill_after(steps: usize, run: &mut Command) {
    let mut child = run.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    wait_for_steps(&mut child, steps);
    child.kill().expect("it runs still");
    let status = child.wait().expect("it ends");
    assert!(!status.success(), "{status}");
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
