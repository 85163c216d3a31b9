//! A disk that fills up in the middle of a run: what was written before is whole, and the run goes on from it elsewhere.

#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{errors, finish, head, skip};

/// Runs the arguments behind the third with a disk of `$1` KiB at `$2`. That disk is gone with the shell, so what it
/// holds in the end is copied to `$3`.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o "size=$1k" tmpfs "$2" || exit 99
disk=$2
copy=$3
shift 3
"$@"
code=$?
cp -r "$disk/." "$copy" || exit 98
exit $code
"#;

/// A command that runs the arguments that are still to be added, in a mount namespace of its own.
fn on_a_small_disk(kibibytes: u64, disk: &Path, copy: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", ON_A_SMALL_DISK, "sh"]).arg(kibibytes.to_string()).args([disk, copy]);
    command
}

/// Why this machine gives its users no disk of their own, if so: `unshare` is missing or may not make the namespaces, or
/// nothing may be mounted in them. Anything else that goes wrong is no reason to skip.
fn unavailable(disk: &Path, copy: &Path) -> Option<String> {
    let output = match on_a_small_disk(64, disk, copy).arg("true").output() {
        Ok(output) => output,
        Err(error) => return Some(format!("unshare: {error}")),
    };
    let text = errors(&output);
    // Its own complaints begin with its name; the script has none that do.
    if output.status.code() == Some(99) || !output.status.success() && text.starts_with("unshare:") {
        return Some(text.lines().map(str::trim).collect::<Vec<_>>().join("; "));
    }
    assert!(output.status.success(), "{}: {text}", output.status);
    None
}

/// The small run, of which every checkpoint is kept: none is removed to make room for another.
fn training(output: &Path) -> Command {
    let mut command = common::training(output);
    command.arg("train.keep=9");
    command
}

/// What a file, or a folder's files, take of a disk in memory, which has whole pages.
fn kibibytes(path: &Path, page: u64) -> u64 {
    if path.is_dir() {
        return entries(path).iter().map(|name| kibibytes(&path.join(name), page)).sum();
    }
    path.metadata().expect("a file").len().div_ceil(page) * page / 1024
}

/// Bytes in a page of memory.
fn page() -> u64 {
    let output = Command::new("getconf").arg("PAGESIZE").output();
    output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok()).unwrap_or(4096)
}

/// Names in a folder, hidden ones too; none where there is no folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_whole_checkpoints_to_go_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let [disk, roomy] = ["disk", "roomy"].map(|name| folder.path().join(name));
    fs::create_dir(&disk).expect("a folder");
    if let Some(reason) = unavailable(&disk, folder.path()) {
        return skip(&format!("no user namespace to mount a disk in: {reason}"));
    }
    finish(&mut training(&roomy));
    let (page, checkpoints) = (page(), roomy.join("checkpoints"));
    let steps = entries(&checkpoints);
    assert_eq!(steps, ["step-00000002", "step-00000004", "step-00000006", "step-00000008"]);
    let largest = steps.iter().map(|step| kibibytes(&checkpoints.join(step), page)).max().expect("checkpoints");
    let whole_run = kibibytes(&checkpoints, page) + kibibytes(&roomy.join("metrics.jsonl"), page);
    let model = kibibytes(&roomy.join("artifact/model.safetensors"), page);

    for (size, file, left) in [
        (largest + largest / 2, "checkpoints/step-00000004/", &steps[..1]),
        (whole_run + model / 2, "artifact/model.safetensors", &steps[..]),
    ] {
        let copy = folder.path().join(format!("copy-{size}"));
        fs::create_dir(&copy).expect("a folder");
        let run = training(&disk);
        let mut full = on_a_small_disk(size, &disk, &copy);
        let output = full.arg(run.get_program()).args(run.get_args()).output().expect("unshare starts");
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in [file, "No space left on device", "free space"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(entries(&copy.join("checkpoints")), left, "nothing that is not whole is left");
        assert_eq!(entries(&copy.join("artifact")), [""; 0], "nor anything of the artifact");

        let resumed = finish(training(&copy).args(["--resume", "auto"]));
        let (text, newest) = (errors(&resumed), left.last().expect("a checkpoint"));
        assert!(text.contains("resumed from") && text.contains(newest.as_str()), "{text}");
        assert!(!text.contains("passed over"), "{text}");
        assert_eq!(head(&copy), head(&roomy), "the head of the run that had room");
    }
}

#[test]
fn a_disk_without_room_for_clean_passes_ends_their_keeping_and_not_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("a folder");
    if let Some(reason) = unavailable(&disk, folder.path()) {
        return skip(&format!("no user namespace to mount a disk in: {reason}"));
    }
    // More passes than there is room for; and room for all of them, but not for the checkpoints beside them.
    let long = ["data.train_images=128", "train.epochs=1", "train.checkpoint_every=100"];
    for (name, overrides, why) in
        [("long", &long[..], "No space left on device"), ("short", &[], "its room was needed for a checkpoint")]
    {
        let [roomy, copy] = ["roomy", "copy"].map(|place| folder.path().join(format!("{name}-{place}")));
        fs::create_dir(&copy).expect("a folder");
        let training = |output: &Path| {
            let mut command = training(output);
            command.args(["data.augment=[]", "data.cache=true"]).args(overrides);
            command
        };
        finish(&mut training(&roomy));
        let run = training(&disk);
        let mut small = on_a_small_disk(kibibytes(&roomy, page()) + 256, &disk, &copy);
        let text = errors(&finish(small.arg(run.get_program()).args(run.get_args())));
        assert!(text.contains("data.cache: ") && text.contains(why), "{text}");
        assert_eq!(head(&copy), head(&roomy));
    }
}
