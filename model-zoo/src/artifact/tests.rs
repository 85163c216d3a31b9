mod refused;
mod verified;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::backbone::{BackboneSpec, TapSpec, imagenet};
use crate::explainer::{
    AnyHead, AnyHeadConfig, MaskingModel, MaskingModelConfig, Method, TameConfig, TameHead, Upsampling,
};
use crate::image::Preprocessing;

fn device() -> Device {
    Device::flex()
}

fn backbone() -> BackboneSpec {
    BackboneSpec {
        name: "resnet18".into(),
        preprocessing: imagenet(),
        classes: 4,
        taps: vec![TapSpec::map("layer2", 2, 8), TapSpec::map("layer3", 3, 16)],
        default_taps: vec!["layer2".into(), "layer3".into()],
        auxiliary_taps: vec!["layer2".into(), "layer3".into()],
        weights_sha256: Some("ab".repeat(32)),
    }
}

fn artifact() -> Artifact {
    let backbone = backbone();
    let head = TameHead::new(TameConfig::ttame(&backbone.taps, backbone.classes, 64), 1, &device());
    let taps = backbone.default_taps.clone();
    let config =
        ArtifactConfig::new(Method::Ttame, head.config().clone(), taps, &backbone, "hf://timm/resnet18.tv_in1k");
    Artifact { config, head: head.into() }
}

/// Another classifier that lends its feature maps, with other classes.
fn auxiliary() -> BackboneSpec {
    BackboneSpec {
        name: "mobilenet_v3_small".into(),
        preprocessing: Preprocessing { mean: [0.5; 3], std: [0.25; 3], ..imagenet() },
        classes: 7,
        taps: vec![TapSpec::map("features.0", 2, 8), TapSpec::map("features.9", 3, 32)],
        default_taps: vec!["features.0".into(), "features.9".into()],
        auxiliary_taps: vec!["features.0".into(), "features.9".into()],
        weights_sha256: Some("ef".repeat(32)),
    }
}

/// A P-TAME head that explains [`backbone`] by [`auxiliary`]'s feature maps.
fn ptame() -> Artifact {
    let (backbone, auxiliary) = (backbone(), auxiliary());
    let head = TameHead::new(TameConfig::ptame(&auxiliary.taps, backbone.classes, 224).unwrap(), 1, &device());
    let (shape, taps) = (head.config().clone(), auxiliary.default_taps.clone());
    let config = ArtifactConfig::new(Method::Ptame, shape, taps, &backbone, "hf://timm/resnet18.tv_in1k")
        .with_auxiliary(&auxiliary, "weights/mobilenet.pth");
    Artifact { config, head: head.into() }
}

/// A masking model over three scales of 16, 8 and 4 cells for 64 pixels.
fn masking_model() -> Artifact {
    let taps = vec![TapSpec::map("layer1", 4, 4), TapSpec::map("layer2", 2, 8), TapSpec::map("layer3", 3, 16)];
    let backbone = BackboneSpec { taps, ..backbone() };
    let shape = MaskingModelConfig { width: 4, ..MaskingModelConfig::new(&backbone.taps, 4, 64).unwrap() };
    let head = MaskingModel::new(shape.clone(), 1, &device());
    let taps = backbone.taps.iter().map(|tap| tap.name.clone()).collect();
    let mut config = ArtifactConfig::new(Method::MaskingModel, shape, taps, &backbone, "hf://timm/resnet18.tv_in1k");
    config.masking = "infill".into();
    Artifact { config, head: head.into() }
}

fn saved() -> (TempDir, PathBuf) {
    saved_of(&artifact())
}

fn saved_of(artifact: &Artifact) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/artifact");
    artifact.save(&path, "explainer: {method: ttame}\n").unwrap();
    (folder, path)
}

/// Changes a value of `config.json`, and forgets the model's SHA-256 unless it is that which is changed.
fn edit(folder: &Path, pointer: &str, value: Value) {
    let path = folder.join(CONFIG);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["model_sha256"] = Value::Null;
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    fs::write(&path, json.to_string()).unwrap();
}

/// Writes `model.safetensors` anew from changed tensors, and makes `config.json` accept it.
fn rewrite(folder: &Path, change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let mut tensors = artifact().head.values();
    change(&mut tensors);
    fs::write(folder.join(MODEL), serialise(&tensors).unwrap()).unwrap();
    edit(folder, "/model_sha256", Value::Null);
}

fn load_error(folder: &Path) -> String {
    Artifact::load(folder, &device()).unwrap_err().to_string()
}

pub(super) fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn bits(head: &AnyHead) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    head.values().into_iter().map(|(name, shape, values)| (name, shape, bits(values))).collect()
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: fs::DirEntry| entry.path().is_file().then(|| fs::read(entry.path()).unwrap());
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter_map(|entry| Some((entry.file_name().into_string().unwrap(), read(entry)?)))
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let (_keep, folder) = saved();
    let before = artifact();
    let after = Artifact::load(&folder, &device()).unwrap();
    assert_eq!(bits(&after.head), bits(&before.head));
    assert_eq!(ArtifactConfig { model_sha256: None, ..after.config.clone() }, before.config);
    assert_eq!(after.config.model_sha256.unwrap(), sha256(&fs::read(folder.join(MODEL)).unwrap()));
    assert_eq!(fs::read_to_string(folder.join(RUN)).unwrap(), "explainer: {method: ttame}\n");
    let names: Vec<String> = contents(&folder).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [CARD, CONFIG, MODEL, RUN], "nothing else is left");
}

#[test]
fn pytorch_finds_every_tensor_of_its_module() {
    let (_keep, folder) = saved();
    let bytes = fs::read(folder.join(MODEL)).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<String> =
        file.iter().map(|(name, tensor)| format!("{name} {:?} {:?}", tensor.dtype(), tensor.shape())).collect();
    tensors.sort();
    insta::assert_snapshot!(tensors.join("\n"));
}

#[test]
fn the_model_card() {
    let mut config = artifact().config;
    config.created_with = "explainer-zoo 0.0.0".into();
    config.figures = [("AD(50)", 12.5), ("IC(50)", 40.0), ("steps", 1000.0)].map(|(k, v)| (k.into(), v)).into();
    insta::assert_snapshot!(card::card(&config, None));
}

#[test]
fn the_model_card_with_an_auxiliary() {
    let mut config = ptame().config;
    config.created_with = "explainer-zoo 0.0.0".into();
    insta::assert_snapshot!(card::card(&config, None));
}

#[test]
fn the_model_card_of_a_masking_model() {
    let mut config = masking_model().config;
    config.created_with = "explainer-zoo 0.0.0".into();
    insta::assert_snapshot!(card::card(&config, None));
}

#[test]
fn a_masking_model_is_saved_and_loaded_without_its_encoder() {
    let before = masking_model();
    let (_keep, folder) = saved_of(&before);
    let after = Artifact::load(&folder, &device()).unwrap();
    assert_eq!(bits(&after.head), bits(&before.head));
    assert_eq!(ArtifactConfig { model_sha256: None, ..after.config }, before.config);
    let bytes = fs::read(folder.join(MODEL)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |name: &str| ["selector.", "stages.", "output."].iter().any(|module| name.starts_with(module));
    assert!(file.names().into_iter().all(own), "{:?}", file.names());
    let json: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG)).unwrap()).unwrap();
    let expected = json!({
        "channels": [4, 2, 3], "sides": [16, 8, 4], "classes": 4, "class_selector": true, "width": 4,
        "activation": "ratio", "upsampling": "sub_pixel", "confidence": 0.0,
    });
    assert_eq!(json["head"], expected);
}

#[test]
fn an_auxiliary_is_saved_and_loaded() {
    let before = ptame();
    let (_keep, folder) = saved_of(&before);
    let after = Artifact::load(&folder, &device()).unwrap();
    assert_eq!(bits(&after.head), bits(&before.head));
    assert_eq!(ArtifactConfig { model_sha256: None, ..after.config.clone() }, before.config);
    let AnyHeadConfig::Tame(shape) = &after.config.head else { panic!("another family") };
    assert_eq!(shape.upsampling, Upsampling::Doubling);
    let preprocessing = Preprocessing { mean: [0.5; 3], std: [0.25; 3], ..backbone().preprocessing };
    assert_eq!(after.config.auxiliary_preprocessing(), Some(preprocessing));

    let json: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG)).unwrap()).unwrap();
    let expected = json!({
        "name": "mobilenet_v3_small", "weights": "weights/mobilenet.pth", "sha256": "ef".repeat(32), "classes": 7,
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    });
    assert_eq!(json["auxiliary"], expected);
    assert_eq!(json["passes"], json!({"forward": 1, "backward": 0, "auxiliary_forward": 1}));
}

#[test]
fn an_artifact_without_an_auxiliary_says_nothing_of_one() {
    let (_keep, folder) = saved();
    let json: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG)).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(json.get("auxiliary").is_none());
    // The keys of the first artifacts, which still load.
    assert_eq!(keys(&json["head"]), ["branches", "channels", "classes", "fuse_bias", "map_size"]);
    assert_eq!(keys(&json["passes"]), ["backward", "forward"]);
}

#[test]
fn what_could_not_be_loaded_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = artifact();
    broken.head = broken.config.head.from_values(|_, s| vec![f32::NAN; s.iter().product()], &device());
    let error = broken.save(folder.path(), "").unwrap_err();
    assert!(matches!(error, ArtifactError::Tensor { .. }), "{error}");
    let mut broken = artifact();
    broken.config.figures.insert("AD(50)".into(), f64::NAN);
    contains(&broken.save(folder.path(), "").unwrap_err().to_string(), &["AD(50)", "finite"]);
    let mut broken = artifact();
    let AnyHeadConfig::Tame(shape) = &mut broken.config.head else { panic!("another family") };
    shape.classes += 1;
    contains(&broken.save(folder.path(), "").unwrap_err().to_string(), &["that of the network"]);
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn a_failed_save_leaves_the_old_artifact() {
    let (_keep, folder) = saved();
    fs::write(folder.join("LICENSE"), "the user's own file").unwrap();
    let before = contents(&folder);
    // A folder stands where the last of the temporary files would be written; this fails for root too.
    let obstacle = folder.join(format!(".{CONFIG}.tmp-{}", std::process::id()));
    fs::create_dir(&obstacle).unwrap();
    let mut other = artifact();
    other.head = other.config.head.init(2, &device());
    contains(&other.save(&folder, "").unwrap_err().to_string(), &["cannot write", "config.json", "free space"]);
    assert_eq!(contents(&folder), before);
    fs::remove_dir(obstacle).unwrap();
    other.save(&folder, "").unwrap();
    assert_eq!(bits(&Artifact::load(&folder, &device()).unwrap().head), bits(&other.head));
    assert!(folder.join("LICENSE").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let (_keep, folder) = saved();
    let below_a_file = folder.join(CARD).join("artifact");
    contains(&artifact().save(&below_a_file, "").unwrap_err().to_string(), &["cannot write", "README.md/artifact"]);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_keeps_the_old_artifact() {
    use std::os::unix::fs::PermissionsExt;
    let (_keep, folder) = saved();
    let before = contents(&folder);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), "").is_ok() {
        println!("skipped: this user (root) may write into a read-only folder");
        return;
    }
    let error = artifact().save(&folder, "").unwrap_err().to_string();
    let after = contents(&folder);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    contains(&error, &["cannot write", "model.safetensors", "permissions"]);
    assert_eq!(after, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_head_survives_the_round_trip(
        channels in prop::collection::vec(1usize..6, 1..4),
        classes in 1usize..7,
        map_size in [1usize..20, 1..20],
        branches: bool,
        fuse_bias: bool,
        doubling: bool,
        seed: u64,
        figure in -1000i32..1000,
    ) {
        let device = device();
        let upsampling = if doubling { Upsampling::Doubling } else { Upsampling::Resize };
        let shape = TameConfig { channels, classes, map_size, branches, fuse_bias, upsampling };
        let head = AnyHeadConfig::from(shape.clone()).init(seed, &device);
        let taps = (0..shape.channels.len()).map(|i| format!("layer{i}")).collect();
        let mut config = ArtifactConfig::new(Method::Tame, shape, taps, &backbone(), "weights | `odd`\nname.pth");
        config.figures.insert("figure".into(), f64::from(figure) / 4.0);
        config.class_names = Some((0..classes).map(|i| format!("class {i} \"\u{e9}\"")).collect());
        let folder = tempfile::tempdir().unwrap();
        Artifact { config: config.clone(), head: head.clone() }.save(folder.path(), "").unwrap();
        let loaded = Artifact::load(folder.path(), &device).unwrap();
        prop_assert_eq!(bits(&loaded.head), bits(&head));
        prop_assert_eq!(ArtifactConfig { model_sha256: None, ..loaded.config }, config);
    }
}
