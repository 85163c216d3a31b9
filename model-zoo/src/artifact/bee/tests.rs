use super::*;
use crate::backbone::imagenet;
use crate::explainer::bee::MixtureConfig;

fn artifact() -> BeeArtifact {
    let spec = BackboneSpec {
        name: "resnet18".into(),
        preprocessing: Preprocessing { resize: 8, crop: 8, ..imagenet() },
        classes: 3,
        taps: Vec::new(),
        default_taps: Vec::new(),
        auxiliary_taps: Vec::new(),
        weights_sha256: Some("ab".repeat(32)),
    };
    let metrics = vec![RewardMetric::Ins, RewardMetric::Del];
    let config = BeeConfig::new(&spec, "weights.pth", vec!["layer4".into(), "image".into()], metrics.clone());
    let shape = MixtureConfig { dimensions: 4, ..MixtureConfig::new(6) };
    let references = Tensor::<4>::full([2, 3, 8, 8], 0.25, &Device::default());
    BeeArtifact { config, mixtures: Mixtures::prior(&metrics, &shape, 1), references }
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let saved = artifact();
    saved.save(folder.path(), "# the run\n").unwrap();
    assert!(is_bee(folder.path()));
    let loaded = BeeArtifact::load(folder.path(), &Device::default()).unwrap();
    assert_eq!(loaded.mixtures, saved.mixtures);
    assert_eq!(loaded.references.into_data(), saved.references.into_data());
    assert_eq!(BeeConfig { model_sha256: None, ..loaded.config.clone() }, saved.config);
    assert_eq!(loaded.config.passes(100), 800);
    let card = fs::read_to_string(folder.path().join(CARD)).unwrap();
    assert!(card.contains("INS, DEL") && card.contains("800 forward"), "{card}");
}

#[test]
fn a_head_is_no_bee_and_bee_is_no_head() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!is_bee(folder.path()));
    artifact().save(folder.path(), "").unwrap();
    let error = crate::artifact::Artifact::load(folder.path(), &Device::default()).unwrap_err().to_string();
    assert!(error.contains("BEE") && error.contains("--metric"), "{error}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut BeeArtifact)| {
        let mut artifact = artifact();
        change(&mut artifact);
        artifact.save(folder.path(), "").unwrap_err().to_string()
    };
    for (message, part) in [
        (refused(&|a| a.config.metrics = vec![RewardMetric::Ins]), "metrics"),
        (refused(&|a| a.config.steps = 0), "steps"),
        (refused(&|a| a.config.sites.clear()), "sites"),
        (refused(&|a| a.config.method = "ttame".into()), "method"),
        (refused(&|a| a.config.class_names = Some(Vec::new())), "class_names"),
        (refused(&|a| a.references = Tensor::full([2, 3, 4, 8], 0.5, &Device::default())), "references"),
        (refused(&|a| a.references = Tensor::full([2, 3, 8, 8], 1.5, &Device::default())), "references"),
    ] {
        assert!(message.contains(part), "{message}");
    }
    artifact().save(folder.path(), "").unwrap();
    let path = folder.path().join(CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, part) in [
        ("\"steps\": 4", "\"steps\": 0", "steps"),
        ("\"steps\": 4", "\"steps\": 4, \"colour\": 1", "colour"),
        ("\"schema_version\": 1", "\"schema_version\": 99", "99"),
        ("\"model_sha256\": \"", "\"model_sha256\": \"00", "SHA-256"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = BeeArtifact::load(folder.path(), &Device::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{from} -> {to}: {error}");
    }
}

#[test]
fn another_classifier_is_refused() {
    let artifact = artifact();
    let spec = |name: &str, sha256: &str| BackboneSpec {
        name: name.into(),
        preprocessing: imagenet(),
        classes: 3,
        taps: Vec::new(),
        default_taps: Vec::new(),
        auxiliary_taps: Vec::new(),
        weights_sha256: Some(sha256.repeat(32)),
    };
    assert_eq!(artifact.config.verify_backbone(&spec("resnet18", "ab")).unwrap(), BackboneMatch::Verified);
    assert!(artifact.config.verify_backbone(&spec("resnet18", "cd")).unwrap_err().to_string().contains("SHA-256"));
    let record = BackboneRecord::new(&spec("resnet50", "ef"), "w");
    let config = BeeConfig { context: Some(record), ..artifact.config };
    let error = config.verify_context(&spec("resnet18", "ef")).unwrap_err().to_string();
    assert!(error.contains("context") && error.contains("resnet50"), "{error}");
}
