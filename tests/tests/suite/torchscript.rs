//! The LibTorch engine against the native one, on photographs, with the classifiers that `scripts/check_torchscript`
//! exports from timm.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Tensor;
use explainer_tests::{
    assert_close, compute, facts, one_hot, photographs, predicted, real_backbone, relative_error, skip, tap_values,
    values,
};
use explainer_zoo::backbone::{Backbone, Tap, open, torchscript};
use explainer_zoo::image::Preprocessing;

/// Of logits and taps, relative to the largest magnitude.
const FORWARD: f32 = 1e-4;
/// Of gradients: the norm of the difference over the norm. Single pixels are not determined so well in f32, where a
/// rectifier's argument lies at rounding distance from its bend: on EfficientNet-Lite0 PyTorch's own f32 and f64 differ by
/// 8e-3 of the largest value, and by 1.7e-3 in norm.
const GRADIENT: f32 = 5e-3;

/// The exported file, or none, with the reason printed.
fn exported(name: &str) -> Option<PathBuf> {
    let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/torchscript"));
    let path = std::env::var_os("EXPLAINER_TORCHSCRIPT").map_or_else(own, PathBuf::from).join(format!("{name}.pt"));
    if !path.is_file() {
        skip(&format!("no TorchScript at {}; scripts/check_torchscript writes it", path.display()));
        return None;
    }
    Some(path)
}

fn check(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    eprintln!("{what}: off by {:.1e} of the largest value, {tolerance:.0e} allowed", relative_error(found, expected));
    assert_close(what, found, expected, tolerance);
}

/// [`check`] of gradients.
fn check_gradient(what: &str, found: Tap, expected: Tap) {
    let (found, expected) = (tap_values(found), tap_values(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    let off = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
    eprintln!("{what}: off by {off:.1e} in norm, {GRADIENT:.0e} allowed");
    assert!(off <= GRADIENT, "{what}: off by {off:.1e} in norm, more than {GRADIENT:.0e}");
}

fn is_the_native_one(name: &str) {
    let (Some(path), Some(facts), compute) = (exported(name), facts(), compute()) else { return };
    let Some(native) = real_backbone(name, &compute) else { return };
    let path = path.display().to_string();
    let script: Arc<dyn Backbone> =
        open(torchscript::NAME, &path, None, None, &compute, &mut |_, _| {}).expect("a TorchScript");
    let preprocessing: &Preprocessing = &native.spec().preprocessing;
    assert_eq!(&script.spec().preprocessing, preprocessing);
    assert_eq!(script.spec().classes, native.spec().classes);
    let Some(images) = photographs(&facts["real"][name], preprocessing, &compute.device) else { return };

    let names = &script.spec().default_taps;
    assert_eq!(names, &native.spec().default_taps);
    let ids = script.taps(names).expect("its taps");
    let own = native.taps(names).expect("the same taps");
    for (id, own) in ids.iter().zip(&own) {
        assert_eq!(script.tap(*id), native.tap(*own));
    }
    let (seen, expected) = (script.forward(images.clone(), &ids), native.forward(images.clone(), &own));
    let classes = predicted(expected.logits.clone());
    assert_eq!(predicted(seen.logits.clone()), classes);
    check(&format!("{name} logits"), &values(seen.logits), &values(expected.logits), FORWARD);
    for ((tap, expected), name) in seen.taps.iter().zip(&expected.taps).zip(names) {
        check(name, &tap_values(tap.clone()), &tap_values(expected.clone()), FORWARD);
    }

    let cotangent = |logits: Tensor<2>, rows: Range<usize>| one_hot(&logits, &classes[rows]);
    let (answer, expected) = (script.vjp(images.clone(), &cotangent), native.vjp(images.clone(), &cotangent));
    check_gradient(&format!("{name} gradient"), answer.gradient, expected.gradient);

    for ((id, own), (feature, name)) in ids.iter().zip(own).zip(seen.taps.into_iter().zip(names)) {
        let answer = script.vjp_at(images.clone(), *id, feature.clone(), &cotangent);
        let expected = native.vjp_at(images.clone(), own, feature, &cotangent);
        check(&format!("logits at {name}"), &values(answer.logits), &values(expected.logits), FORWARD);
        check_gradient(&format!("gradient at {name}"), answer.gradient, expected.gradient);
    }
    assert!(script.failure().is_none());
}

#[test]
fn efficientnet_lite0() {
    is_the_native_one("tf_efficientnet_lite0.in1k");
}

#[test]
fn dinov2() {
    is_the_native_one("vit_small_patch14_dinov2.in16");
}

mod training {
    //! Runs on a TorchScript and on the same classifier in its native form.

    use std::path::Path;

    use explainer_tests::{images_folder, weights_folder};
    use explainer_train::config::Config;
    use explainer_train::fit::{self, ResumeFrom};
    use explainer_zoo::explain::{Explain, ExplainBatch, Explainer, Targets};

    use super::*;

    const NAME: &str = "tf_efficientnet_lite0.in1k";
    /// Of a loss, after some steps.
    const LOSS: f64 = 1e-3;

    const RUN: &str = "\
explainer: {method: ttame}
backbone: {name: torchscript, weights: model.pt}
data: {train: photographs, val: photographs, train_images: 12, val_images: 4, augment: [flip]}
train: {epochs: 1, batch_size: 4, log_every: 1, checkpoint_every: 100}
masking: before-norm
";

    /// Losses of the steps of a run with these overrides, and the artifact of its end.
    fn losses(output: &Path, overrides: &[String]) -> Vec<f64> {
        let mut config = Config::parse(RUN, Path::new("run.yaml"), overrides).expect("a configuration");
        config.output = Some(output.into());
        let interrupter = burn::train::Interrupter::new();
        let finished = fit::run(&config, &ResumeFrom::Start, true, &interrupter).expect("a run");
        assert!(finished.artifact.is_some());
        let log = std::fs::read_to_string(output.join("metrics.jsonl")).expect("a log");
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    }

    fn trains_as_natively(further: &[&str]) {
        let Some(script) = exported(NAME) else { return };
        let (photographs, weights) = (images_folder("train"), weights_folder().join(NAME).join("model.safetensors"));
        for path in [&photographs, &weights] {
            if !path.exists() {
                return skip(&format!("{} is not there", path.display()));
            }
        }
        let text = |key: &str, path: &Path| format!("{key}={}", path.display());
        let further = further.iter().map(|text| text.replace("WEIGHTS", &weights.display().to_string()));
        let common: Vec<String> =
            [text("data.train", &photographs), text("data.val", &photographs)].into_iter().chain(further).collect();
        let with = |own: Vec<String>| common.iter().cloned().chain(own).collect::<Vec<_>>();
        let folder = tempfile::tempdir().expect("a folder");
        let [torch, native] = ["torch", "native"].map(|name| folder.path().join(name));
        let found = losses(&torch, &with(vec![text("backbone.weights", &script)]));
        let own = vec!["backbone.name=tf_efficientnet_lite0".into(), text("backbone.weights", &weights)];
        let expected = losses(&native, &with(own));
        eprintln!("losses {found:?}, natively {expected:?}");
        assert_eq!((found.len(), expected.len()), (3, 3));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= LOSS * expected.abs(), "{found} instead of {expected}");
        }

        // Its artifact explains, with the TorchScript at the place that it names.
        let explainer = Explainer::open(torch.join("artifact")).expect("an explainer");
        let pixels = Tensor::<4>::full([1, 3, 224, 224], 0.5, &explainer.compute.device);
        let batch = ExplainBatch::from_pixels(pixels, explainer.preprocessing());
        assert_eq!(explainer.explain_batch(&batch, Targets::Top(1)).expect("maps").classes.len(), 1);
    }

    #[test]
    fn ttame_on_its_taps() {
        trains_as_natively(&[]);
    }

    #[test]
    fn lcam_fm_through_its_tap() {
        trains_as_natively(&["explainer={method: lcam_fm}", "backbone.taps=[blocks.6]"]);
    }

    #[test]
    fn ptame_on_a_black_box() {
        trains_as_natively(&[
            "explainer={method: ptame}",
            "auxiliary={name: tf_efficientnet_lite0, weights: 'WEIGHTS'}",
        ]);
    }
}
