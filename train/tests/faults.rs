//! Runs that are killed, signalled and whose checkpoints are damaged: they end with the head of the run that was left
//! alone, and the log has every line that was printed.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use common::{errors, finish, head, training};
use explainer_train::fit::checkpoint;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often a run is killed, unless `EXPLAINER_KILLS` says how often.
const KILLS: usize = 10;
/// Images in a batch of the run that is killed.
const BATCH: usize = 2;

/// A run of so many epochs of four steps, with a checkpoint and a line of the log after each.
fn small(output: &Path, epochs: usize) -> Command {
    let mut command = training(output);
    command.args(["data.train_images=8", "data.val_images=2", "train.checkpoint_every=1", "--threads", "1"]);
    command.args([format!("train.batch_size={BATCH}"), format!("train.epochs={epochs}")]);
    command
}

/// Names in the folder of a run's checkpoints; none where there is no folder.
fn entries(output: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(output.join("checkpoints")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn begins(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// Whether a checkpoint is being written, or was when the run was killed.
fn saving(output: &Path) -> bool {
    entries(output).iter().any(|path| begins(path, ".writing-"))
}

/// The steps that the log tells of behind its first `from` bytes, all of whose lines are whole; and its length.
fn logged(output: &Path, from: usize) -> (BTreeSet<usize>, usize) {
    let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
    let lines = text[from..].lines().map(|line| serde_json::from_str(line).expect("a whole line of JSON"));
    let step = |line: serde_json::Value| line["loss"].as_f64().and(line["step"].as_u64());
    (lines.filter_map(step).map(|step| step as usize).collect(), text.len())
}

/// A run on its way, and the steps that it has printed a line of.
struct Watched {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    printed: Vec<usize>,
}

impl Watched {
    fn start(mut run: Command) -> Self {
        let mut child = run.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, lines, printed: Vec::new() }
    }

    /// Reads on until the run has printed lines of `steps` steps, or has ended.
    fn wait(&mut self, steps: usize) {
        while self.printed.len() < steps {
            let Some(Ok(line)) = self.lines.next() else { return };
            if let Some((images, _)) = line.split_once('/').filter(|_| line.contains("images/s")) {
                self.printed.push(images.parse::<usize>().expect("a number of images") / BATCH);
            }
        }
    }

    /// Kills it, with no chance to tidy up (SIGKILL); what it had printed until then.
    fn kill(mut self) -> Vec<usize> {
        self.child.kill().expect("it runs still, or has ended");
        self.wait(usize::MAX);
        self.child.wait().expect("it ends");
        self.printed
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_head_of_one_that_was_not() {
    let kills = std::env::var("EXPLAINER_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let started = Instant::now();
    finish(&mut small(&whole, kills));
    let step = started.elapsed() / (4 * kills as u32);

    let mut random = ChaCha8Rng::seed_from_u64(50);
    let (mut known, mut told, mut in_a_save) = (0, BTreeSet::new(), 0);
    for kill in 0..kills {
        let mut run = small(&killed, kills);
        run.args(["--resume", "auto"]);
        let mut run = Watched::start(run);
        if kill % 5 > 0 {
            run.wait(random.random_range(1..4)); // one kill of five comes sooner: while the run starts
        }
        let seen = Instant::now();
        let delay = step.mul_f64(random.random_range(0.0..2.0));
        // Half of the kills wait for a checkpoint that is being written, the others for a moment.
        while !(if kill % 2 == 0 { saving(&killed) } else { seen.elapsed() >= delay } || run.ended()) {
            std::thread::yield_now();
        }
        let printed = run.kill();
        in_a_save += usize::from(saving(&killed));

        let (steps, length) = logged(&killed, known);
        let lost: Vec<_> = printed.iter().filter(|step| !steps.contains(step)).collect();
        assert!(lost.is_empty(), "kill {kill}: steps {lost:?} were printed and are not in the log: {steps:?}");
        told.extend(steps);
        known = length;
        for path in entries(&killed).iter().filter(|path| begins(path, "step-")) {
            let state = checkpoint::read_state(path).expect("a whole checkpoint");
            checkpoint::load(path, &state.run).expect("a whole checkpoint");
        }
    }
    assert!(in_a_save > 0, "not one of {kills} kills met a checkpoint that was being written");
    assert!(!killed.join("artifact").exists(), "it was killed to its end");

    let text = errors(&finish(small(&killed, kills).args(["--resume", "auto"])));
    assert!(text.contains("resumed from") && !text.contains("passed over"), "{text}");
    assert!(!saving(&killed), "what was begun is swept away");
    told.extend(logged(&killed, known).0);
    assert!(told.into_iter().eq(1..=4 * kills), "every step has its line");
    assert_eq!(head(&whole), head(&killed));
    eprintln!("{kills} kills, {in_a_save} while a checkpoint was written, {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn a_run_with_a_flipped_bit_in_its_newest_checkpoint_goes_on_from_the_one_before_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    finish(&mut training(folder.path()));
    let whole = head(folder.path());
    fs::remove_dir_all(folder.path().join("artifact")).expect("a folder");
    for file in ["head.bpk", "state.json"] {
        let path = folder.path().join("checkpoints/step-00000008").join(file);
        let mut bytes = fs::read(&path).expect("a checkpoint");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).expect("a file");
        let text = errors(&finish(training(folder.path()).args(["--resume", "auto"])));
        for part in ["passed over a checkpoint", file, "damaged", "resumed from", "step-00000006"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(head(folder.path()), whole);
    }
}

/// Sends a signal by its name.
#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.expect("a shell").success());
}

#[cfg(unix)]
#[test]
fn every_signal_that_asks_to_stop_leaves_a_checkpoint_to_go_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    // Checkpoints at the signals alone.
    let run = |output: &Path| {
        let mut command = small(output, 30);
        command.args(["train.checkpoint_every=1000", "train.validate_every=120"]);
        command
    };
    finish(&mut run(&whole));
    for signals in [&["USR1", "USR2", "TERM"][..], &["INT"], &["TERM"], &["HUP"]] {
        let mut command = run(&stopped);
        command.args(["--resume", "auto"]).stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        assert_eq!(lines.by_ref().filter(|line| line.contains("images/s")).take(2).count(), 2, "{signals:?}");
        signals.iter().for_each(|name| signal(&child, name));
        lines.for_each(drop);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("continue with --resume auto"), "{signals:?}: {text}");
    }
    let text = errors(&finish(run(&stopped).args(["--resume", "auto"])));
    assert!(text.contains("resumed from"), "{text}");
    assert_eq!(head(&whole), head(&stopped));
}
