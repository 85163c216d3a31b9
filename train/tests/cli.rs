//! The command line as its user meets it: help texts, messages, exit codes. `cargo insta review` accepts new wording.

#![allow(clippy::unwrap_used)] // the helpers below are test code too, which clippy.toml cannot see

use insta::assert_snapshot;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const GOOD: &str = "\
explainer: {method: ttame}
backbone: {name: resnet50, weights: resnet50.pth}
data: {train: images/train, val: images/val}
";

/// What a run of the program left: exit code, standard output, standard error.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the program in `folder`, with nothing of this machine's terminal or environment in what it prints.
fn run_in(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(args).current_dir(folder).env("COLUMNS", "100").env_remove("EXPLAINER_DEVICE");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn run(args: &[&str]) -> Ran {
    run_in(Path::new(env!("CARGO_MANIFEST_DIR")), args)
}

/// Standard error of `config check run.yaml overrides...`, which must refuse the YAML as bad configuration.
fn refusal(yaml: &str, overrides: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.yaml"), yaml).unwrap();
    let ran = run_in(folder.path(), &[&["config", "check", "run.yaml"], overrides].concat());
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    ran.err
}

#[test]
fn help() {
    for command in [
        "",
        "explain",
        "evaluate",
        "compare",
        "inspect",
        "import",
        "publish",
        "zoo",
        "zoo list",
        "zoo verify",
        "config",
        "config list",
        "config show",
        "config check",
        "config schema",
        "completions",
    ] {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let ran = run(&args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{command}");
        assert_snapshot!(format!("help {command}").trim().replace(' ', "_"), ran.out);
    }
}

#[test]
fn an_unknown_key_is_shown_in_its_line() {
    assert_snapshot!(refusal(&format!("{GOOD}train:\n  epoch: 3\n"), &[]), @r"
    error: run.yaml: line 5 column 3: unknown key `epoch`, did you mean `epochs`? Known here: epochs, batch_size, seed, checkpoint_every, validate_every, validate_images, keep, log_every
     --> run.yaml:5:3
      |
    3 | data: {train: images/train, val: images/val}
    4 | train:
    5 |   epoch: 3
      |   ^ unknown key `epoch`, did you mean `epochs`? Known here: epochs, batch_size, seed, checkpoint_every, validate_every, validate_images, keep, log_every
    ");
}

#[test]
fn a_wrong_type_is_shown_in_its_line() {
    assert_snapshot!(refusal(&format!("{GOOD}optimizer:\n  name: sgd\n  lr: fast\n"), &[]), @r"
    error: run.yaml: line 6 column 7: expected a number
     --> run.yaml:6:7
      |
    4 | optimizer:
    5 |   name: sgd
    6 |   lr: fast
      |       ^ expected a number
    ");
}

#[test]
fn every_value_out_of_range_is_shown() {
    assert_snapshot!(refusal(&format!("{GOOD}train: {{epochs: 0, batch_size: 0}}\n"), &[]), @r"
    error: run.yaml: line 4 column 32: `train.batch_size`: found 0, expected 1 or more
     --> run.yaml:4:32
      |
    2 | backbone: {name: resnet50, weights: resnet50.pth}
    3 | data: {train: images/train, val: images/val}
    4 | train: {epochs: 0, batch_size: 0}
      |                                ^ `train.batch_size`: found 0, expected 1 or more
    error: line 4 column 17: `train.epochs`: found 0, expected 1 to 100000
     --> run.yaml:4:17
      |
    2 | backbone: {name: resnet50, weights: resnet50.pth}
    3 | data: {train: images/train, val: images/val}
    4 | train: {epochs: 0, batch_size: 0}
      |                 ^ `train.epochs`: found 0, expected 1 to 100000
    ");
}

#[test]
fn an_unknown_method_is_shown_in_its_line() {
    assert_snapshot!(refusal(&GOOD.replace("ttame", "tttame"), &[]), @r"
    error: run.yaml: line 1 column 21: unknown value `tttame`, did you mean `ttame`? Known here: ttame, tame, ptame, lcam_img, lcam_fm, bee, masking_model
     --> run.yaml:1:21
      |
    1 | explainer: {method: tttame}
      |                     ^ unknown value `tttame`, did you mean `ttame`? Known here: ttame, tame, ptame, lcam_img, lcam_fm, bee, masking_model
    2 | backbone: {name: resnet50, weights: resnet50.pth}
    3 | data: {train: images/train, val: images/val}
      |
    ");
}

#[test]
fn broken_yaml_is_shown_in_its_line() {
    assert_snapshot!(refusal(&format!("{GOOD}train: {{epochs: 3\n"), &[]), @r"
    error: run.yaml: line 4 column 8: unclosed bracket '{'
     --> run.yaml:4:8
      |
    2 | backbone: {name: resnet50, weights: resnet50.pth}
    3 | data: {train: images/train, val: images/val}
    4 | train: {epochs: 3
      |        ^ unclosed bracket '{'
    ");
}

#[test]
fn keys_that_do_not_fit_together_are_all_named() {
    assert_snapshot!(refusal(GOOD, &["explainer.method=lcam_img", "data.val=shapes"]), @r"
    error: run.yaml: the configuration does not fit together:
      backbone.taps: found the backbone's default, but explainer.method `lcam_img` takes exactly one; for example `taps: [layer4]` on a ResNet
      data.val_images: required, since data.val is `shapes`, an infinite set of procedural images
    ");
}

#[test]
fn an_auxiliary_that_does_not_go_with_the_rest_is_named_at_its_key() {
    let ptame = "auxiliary={name: resnet18, weights: random, taps: [layer2, layer1]}";
    assert_snapshot!(refusal(GOOD, &["explainer={method: ptame}", ptame, "backbone.taps=[layer4]"]), @r"
    error: run.yaml: the configuration does not fit together:
      backbone.taps: not allowed with explainer.method `ptame`, which reads the auxiliary's feature maps; remove them, or set auxiliary.taps
      auxiliary.taps: on images of 224 pixels tap layer1 has a side of 56 cells, which doubling does not bring to the 28 of the first tap, layer2; choose taps that have the first one's side, or a half, a quarter, ... of it, the largest first
    ");
    assert_snapshot!(refusal(GOOD, &["explainer={method: ptame}"]), @r"
    error: run.yaml: the configuration does not fit together:
      auxiliary: required, since explainer.method `ptame` reads the feature maps of a second classifier; for example `auxiliary: {name: resnet18, weights: ...}`
    ");
    assert_snapshot!(refusal(GOOD, &["auxiliary={name: resnet18, weights: random}"]), @r"
    error: run.yaml: the configuration does not fit together:
      auxiliary: not allowed with explainer.method `ttame`, which reads the backbone's feature maps; remove it, or set `explainer: {method: ptame}`
    ");
}

#[test]
fn a_bad_override_is_named() {
    assert_snapshot!(refusal(GOOD, &["train.seed=1", "train.epochs=none"]), @r"
    error: override `train.epochs=none`: expected a whole number, 0 or above
    ");
    assert_snapshot!(refusal(GOOD, &["train.epochs.x=1"]), @r"
    error: override `train.epochs.x=1`: expected a single value
    ");
}

#[test]
fn bad_usage_says_what_to_do() {
    let misuse = |args: &[&str]| {
        let ran = run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}");
        ran.err
    };
    assert_snapshot!(misuse(&["--config", "nowhere.yaml"]), @r"
    error: nowhere.yaml: no such file, and no built-in settings of this name; `explainer-train config list` lists them
    ");
    assert_snapshot!(misuse(&["trian"]), @r"
    error: invalid value 'trian' for '[KEY=VALUE]...': neither a sub-command (see --help) nor KEY=VALUE, such as train.epochs=2

    For more information, try '--help'.
    ");
    assert_snapshot!(misuse(&["train.epochs=1"]), @r"
    error: the following required arguments were not provided:
      --config <FILE>

    Usage: explainer-train --config <FILE> [KEY=VALUE]... [OPTIONS]
           explainer-train <COMMAND>

    For more information, try '--help'.
    ");
    let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");
    assert_snapshot!(misuse(&["--config", quickstart, "--strategy", "burn-ddp"]), @r"
    error: --strategy burn-ddp trains on all CUDA GPUs that this machine has, or that CUDA_VISIBLE_DEVICES shows: expected --device cuda, without a number, found flex
    ");
    assert_snapshot!(misuse(&["--config", "a.yaml", "config", "schema"]), @r"
    error: --config and the other options of training cannot be combined with a sub-command; give the sub-command its own options
    ");
}

#[test]
fn failure_has_its_own_exit_code() {
    let ran = run(&["explain", "/nowhere/artifact", "/nowhere.png"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
}

#[test]
fn a_checked_configuration_checks_again_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.yaml"), GOOD).unwrap();
    let args = ["config", "check", "run.yaml", "train.epochs=3", "--device", "cuda:1"];
    let first = run_in(folder.path(), &args);
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    assert!(first.out.contains("\n  epochs: 3\n") && first.out.contains("\ndevice: cuda:1\n"), "{}", first.out);
    assert!(first.out.ends_with("# run.yaml: OK\n"), "{}", first.out);
    std::fs::write(folder.path().join("run.yaml"), &first.out).unwrap();
    assert_eq!(run_in(folder.path(), &["config", "check", "run.yaml"]).out, first.out);
}

#[test]
fn a_comparison_is_checked_too() {
    let comparison = "\
images: photos
metrics: [ad@50]
explainers:
  - {artifact: checkpoints/one/artifact}
  - {method: grad-cam}
";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.yaml"), comparison).unwrap();
    let checked = run_in(folder.path(), &["config", "check", "run.yaml", "limit=7"]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    assert!(checked.out.contains("\nlimit: 7\n") && checked.out.ends_with("# run.yaml: OK\n"), "{}", checked.out);
    assert_snapshot!(refusal(&comparison.replace("grad-cam", "grad-cam, image: 3"), &[]), @r"
    error: run.yaml: line 5 column 24: unknown key `image`, did you mean `images`? Known here: artifact, train, method, name, images, auxiliary_weights, metric, draws, family
     --> run.yaml:5:24
      |
    3 | explainers:
    4 |   - {artifact: checkpoints/one/artifact}
    5 |   - {method: grad-cam, image: 3}
      |                        ^ unknown key `image`, did you mean `images`? Known here: artifact, train, method, name, images, auxiliary_weights, metric, draws, family
    ");
    assert_snapshot!(refusal(comparison, &["explainers=[{artifact: a}]", "gallery.metric=deletion"]), @r"
    error: run.yaml: the configuration does not fit together:
      explainers: found 1, expected two or more
      gallery.metric: found `deletion`, expected one of metrics: ad@50
    ");
    assert_snapshot!(refusal(comparison, &["explainers=[{artifact: a}, {method: edges, images: 0}]"]), @r"
    error: override `explainers=[{artifact: a}, {method: edges, images: 0}]`: `explainers.1.images`: found 0, expected 1 or more
    ");
}

#[test]
fn the_settings_of_the_project_come_with_the_program() {
    let empty = tempfile::tempdir().unwrap();
    for name in ["ttame_vit.yaml", "configs/ttame_vit", "compare_quickstart"] {
        let ran = run_in(empty.path(), &["config", "check", name]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.err.starts_with(&format!("note: no file {name} here, using the built-in settings")), "{}", ran.err);
        assert!(ran.out.ends_with(&format!("# {name}: OK\n")), "{}", ran.out);
        assert_eq!(run_in(empty.path(), &["config", "check", name, "-q"]).err, "");
    }
    let shown = run_in(empty.path(), &["config", "show", "quickstart"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart.yaml");
    assert_eq!((shown.code, shown.out), (Some(0), std::fs::read_to_string(file).unwrap()));
    let unknown = run_in(empty.path(), &["config", "show", "quikstart.yaml"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    assert!(unknown.err.contains("did you mean `quickstart`?"), "{}", unknown.err);
    assert_snapshot!(run_in(empty.path(), &["config", "list"]).out);
}

#[test]
fn the_environment_names_a_device() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.yaml"), GOOD).unwrap();
    let checked = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        let output = command.args(args).current_dir(folder.path()).env("EXPLAINER_DEVICE", "wgpu").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(checked(&["config", "check", "run.yaml"]).contains("\ndevice: wgpu\n"));
    assert!(checked(&["config", "check", "run.yaml", "--device", "flex"]).contains("\ndevice: flex\n"));
}

#[test]
fn the_schema_is_the_one_in_configs() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let file = |name: &str| std::fs::read_to_string(configs.join(name)).unwrap();
    assert_eq!(run(&["config", "schema"]).out, file("schema.json"));
    assert_eq!(run(&["config", "schema", "--compare"]).out, file("schema_compare.json"));
}

#[test]
fn images_named_on_standard_input_are_answered_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::from_fn(96, 80, |x, y| image::Rgb([x as u8, y as u8, 90]))
        .save(folder.path().join("a.png"))
        .unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    program
        .args(["explain", "zoo:quickstart", "--stdin-list", "--out", "maps", "--top-k", "2"])
        .current_dir(folder.path());
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answer = || serde_json::from_str::<serde_json::Value>(&answers.next().unwrap().unwrap()).unwrap();
    // Each is asked after the answer to the one before it.
    let mut maps = Vec::new();
    for _ in 0..2 {
        writeln!(ask, "a.png").unwrap();
        let (first, second) = (answer(), answer());
        assert_eq!((first["image"].as_str(), second["image"].as_str()), (Some("a.png"), Some("a.png")));
        assert!(first["probability"].as_f64() >= second["probability"].as_f64(), "{first} {second}");
        maps.push(std::fs::read(folder.path().join(first["map"].as_str().unwrap())).unwrap());
        assert!(folder.path().join(first["overlay"].as_str().unwrap()).is_file());
    }
    assert!(maps[0] == maps[1] && std::fs::read_dir(folder.path().join("maps")).unwrap().count() == 12);
    writeln!(ask, "missing.png").unwrap();
    let broken = answer();
    assert_eq!(broken["image"], "missing.png");
    assert!(broken["error"].as_str().unwrap().contains("missing.png"), "{broken}");
    drop(ask);
    assert!(child.wait().unwrap().success());
}

#[test]
fn completions_know_the_sub_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{shell}");
        assert!(ran.out.contains("evaluate") && ran.out.contains("resume"), "{shell}");
    }
}
