//! Whether a classifier is the one that an explainer was trained on.

use super::*;

#[test]
fn a_backbone_is_verified() {
    let config = artifact().config;
    assert_eq!(config.verify_backbone(&backbone()).unwrap(), BackboneMatch::Verified);
    let mut other = backbone();
    other.name = "resnet50".into();
    other.classes = 5;
    other.weights_sha256 = Some("cd".repeat(32));
    other.taps[0].channels = 8;
    other.taps.pop();
    let text = config.verify_backbone(&other).unwrap_err().to_string();
    contains(
        &text,
        &[
            "name: found resnet50, expected resnet18",
            "classes: found 5, expected 4",
            "tap layer2: found 8, expected 2",
            "tap layer3: found no such tap, expected 3",
            &format!("SHA-256: found {}, expected {}", "cd".repeat(32), "ab".repeat(32)),
        ],
    );
}

#[test]
fn an_auxiliary_is_verified_beside_the_backbone() {
    let config = ptame().config;
    assert_eq!(config.verify_backbone(&backbone()).unwrap(), BackboneMatch::Verified);
    assert_eq!(config.verify_auxiliary(&auxiliary()).unwrap(), BackboneMatch::Verified);
    // The taps are not the backbone's.
    let untapped = BackboneSpec { taps: Vec::new(), ..backbone() };
    assert_eq!(config.verify_backbone(&untapped).unwrap(), BackboneMatch::Verified);
    let other = BackboneSpec { classes: 1000, weights_sha256: Some("cd".repeat(32)), ..auxiliary() };
    contains(
        &config.verify_auxiliary(&other).unwrap_err().to_string(),
        &["another auxiliary", "classes: found 1000, expected 7", "SHA-256: found cdcd"],
    );
    let text = config.verify_backbone(&BackboneSpec { classes: 7, ..backbone() }).unwrap_err().to_string();
    contains(&text, &["another backbone", "classes: found 7, expected 4"]);
    // Another size of image, at which the second tap is no half, quarter, ... of the first.
    let mut resized = config.clone();
    (resized.preprocessing.resize, resized.preprocessing.crop) = (232, 232);
    let text = resized.verify_auxiliary(&auxiliary()).unwrap_err().to_string();
    contains(&text, &["232 pixels", "features.9", "8 cells", "29", "features.0"]);
    let unhashed = BackboneSpec { weights_sha256: None, ..auxiliary() };
    let BackboneMatch::Unverified(text) = config.verify_auxiliary(&unhashed).unwrap() else { panic!("verified") };
    contains(&text, &["mobilenet_v3_small", "weights/mobilenet.pth"]);
}

#[test]
fn weights_without_a_hash_are_a_warning() {
    let mut config = artifact().config;
    let unhashed = BackboneSpec { weights_sha256: None, ..backbone() };
    let warning = |config: &ArtifactConfig, spec| match config.verify_backbone(spec).unwrap() {
        BackboneMatch::Unverified(text) => text,
        BackboneMatch::Verified => panic!("nothing was compared"),
    };
    contains(&warning(&config, &unhashed), &["hf://timm/resnet18.tv_in1k", "the backbone's weights come from no file"]);
    config.backbone.sha256 = None;
    let hashed = backbone();
    contains(&warning(&config, &hashed), &["does not record"]);
    contains(&warning(&config, &unhashed), &["neither"]);
}
