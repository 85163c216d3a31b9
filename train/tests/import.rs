//! `explainer-train import` as its user meets it.

#![allow(clippy::unwrap_used, reason = "the helpers below are test code too")]

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::backbone::TapSpec;
use explainer_zoo::explainer::{TameConfig, TameHead};
use safetensors::tensor::{Dtype, TensorView};

/// The images are not there: nothing may look for them.
const CONFIG: &str = "\
explainer: {method: ttame}
backbone: {name: shapes_resnet, weights: embedded}
data: {train: no/train, val: no/val}
masking: before-norm
";

/// The same classifier with an auxiliary.
const PTAME: &str = "\
explainer: {method: ptame}
backbone: {name: shapes_resnet, weights: embedded}
auxiliary: {name: resnet18, weights: 'random:5'}
data: {train: no/train, val: no/val}
masking: before-norm
";

/// What a run of the program left: exit code, standard output, standard error.
type Ran = (Option<i32>, String, String);

/// Imports `checkpoint` in `folder`, which gets a configuration, into `out`.
fn import(folder: &Path, checkpoint: &str, overrides: &[&str]) -> Ran {
    import_as(CONFIG, folder, checkpoint, overrides)
}

fn import_as(config: &str, folder: &Path, checkpoint: &str, overrides: &[&str]) -> Ran {
    std::fs::write(folder.join("run.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.args(["import", checkpoint, "--config", "run.yaml", "--output", "out"]).args(overrides);
    let output = command.current_dir(folder).env_remove("EXPLAINER_DEVICE").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A head for the default taps of shapes_resnet.
fn head(classes: usize) -> TameHead {
    let taps = [("layer1", 32, 4), ("layer2", 64, 8), ("layer3", 128, 16)];
    let taps = taps.map(|(name, channels, stride)| TapSpec::map(name, channels, stride));
    TameHead::new(TameConfig::ttame(&taps, classes, 96), 3, &Device::flex())
}

/// Writes a checkpoint with the head as T-TAME's have it and one tensor of a classifier.
fn write(path: &Path, head: &TameHead) {
    write_behind("generic.attn_mech.", path, head);
}

fn write_behind(prefix: &str, path: &Path, head: &TameHead) {
    let mut files = vec![("generic.model.conv.weight".to_string(), vec![1], vec![0; 4])];
    for (name, shape, values) in head.values() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        files.push((format!("{prefix}{name}"), shape, bytes));
    }
    let views = files.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes.as_slice()).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_head_becomes_an_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let original = head(10);
    write(&folder.path().join("head.safetensors"), &original);
    let (code, out, err) = import(folder.path(), "head.safetensors", &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "imported T-TAME for shapes_resnet, taps layer1, layer2, layer3, 10 classes, from head.safetensors \
         into out (tensors of the file that are not the head's: 1)\n"
    );
    let artifact = Artifact::load(&folder.path().join("out"), &Device::flex()).unwrap();
    assert_eq!(artifact.head.values(), original.values());
    assert_eq!(artifact.config.masking, "before-norm");
    assert!(artifact.config.backbone.sha256.is_some() && artifact.config.figures.is_empty());
    assert_eq!(artifact.config.imported_from.as_deref(), Some("head.safetensors"));
    let card = std::fs::read_to_string(folder.path().join("out/README.md")).unwrap();
    assert!(card.contains("imported from `head.safetensors`") && !card.contains("The whole run"), "{card}");

    // Nor is it replaced.
    let (code, out, err) = import(folder.path(), "head.safetensors", &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("out is not empty"), "{err}");
}

#[test]
fn a_head_of_ptame_becomes_an_artifact_with_its_auxiliary() {
    let folder = tempfile::tempdir().unwrap();
    let taps = [("layer1", 64, 4), ("layer2", 128, 8), ("layer3", 256, 16), ("layer4", 512, 32)];
    let taps = taps.map(|(name, channels, stride)| TapSpec::map(name, channels, stride));
    let original = TameHead::new(TameConfig::ptame(&taps, 10, 96).unwrap(), 3, &Device::flex());
    write_behind("net.attention.", &folder.path().join("head.safetensors"), &original);
    let (code, out, err) = import_as(PTAME, folder.path(), "head.safetensors", &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("imported P-TAME for shapes_resnet, taps layer1, layer2, layer3, layer4 of resnet18, "),
        "{out}"
    );
    let artifact = Artifact::load(&folder.path().join("out"), &Device::flex()).unwrap();
    assert_eq!((artifact.head.values(), artifact.head.config()), (original.values(), original.config().clone().into()));
    let auxiliary = artifact.config.auxiliary.unwrap();
    assert_eq!((auxiliary.backbone.name.as_str(), auxiliary.classes), ("resnet18", 1000));

    // The same tensors under T-TAME's method, and the other way round.
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    let (code, _, err) = import(folder.path(), "head.safetensors", &[]);
    assert!(code == Some(1) && err.contains("method is ttame") && err.contains("net.attention."), "{err}");
    write(&folder.path().join("ttame.safetensors"), &head(10));
    let (code, _, err) = import_as(PTAME, folder.path(), "ttame.safetensors", &[]);
    assert!(code == Some(1) && err.contains("method is ptame") && err.contains("generic.attn_mech."), "{err}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("ten.safetensors"), &head(10));
    write(&folder.path().join("four.safetensors"), &head(4));
    std::fs::write(folder.path().join("text.ckpt"), "no checkpoint").unwrap();
    let cases: [(&str, &[&str], i32, &str); 6] = [
        ("nowhere.ckpt", &[], 1, "nowhere.ckpt"),
        ("text.ckpt", &[], 1, "text.ckpt"),
        ("four.safetensors", &[], 1, "classes: found 10, expected 4"),
        ("ten.safetensors", &["backbone.taps=[layer2, layer3]"], 1, "the checkpoint's channels, [32, 64, 128]"),
        ("ten.safetensors", &["explainer.map_size=7"], 1, "remove explainer.map_size"),
        ("ten.safetensors", &["backbone.name=''"], 2, "backbone.name"),
    ];
    for (checkpoint, overrides, code, expected) in cases {
        let (found, out, err) = import(folder.path(), checkpoint, overrides);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{checkpoint} {overrides:?}: {err}");
        assert!(err.contains(expected), "{expected:?} is missing in: {err}");
        assert!(!folder.path().join("out").exists(), "{checkpoint} {overrides:?}");
    }
}
