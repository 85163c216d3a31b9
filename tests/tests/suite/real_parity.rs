//! Backbones with real weights, on photographs that this project decodes, against PyTorch.
//!
//! Decoders and antialiased resizes differ by a grey level, so that tolerances are wider than with given inputs; what
//! was found is printed.

use std::ops::Range;

use burn::tensor::Tensor;
use explainer_tests::{
    assert_close, compute, facts, indices, one_hot, oracle, photographs, predicted, probe, real_backbone,
    relative_error, tap_values, values,
};
use explainer_zoo::backbone::Backbone;
use serde_json::Value;

/// Of logits and taps, relative to the largest magnitude.
const FORWARD: f32 = 1e-4;
/// Of gradients, likewise.
const GRADIENT: f32 = 1e-3;

fn three(list: &Value) -> [f32; 3] {
    [0, 1, 2].map(|channel| list[channel].as_f64().expect("three numbers") as f32)
}

fn check(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    eprintln!("{what}: off by {:.1e} of the largest value, {tolerance:.0e} allowed", relative_error(found, expected));
    assert_close(what, found, expected, tolerance);
}

fn is_pytorchs(name: &str) {
    let (Some(facts), Some(oracle)) = (facts(), oracle("real")) else { return };
    let entry = &facts["real"][name];
    let compute = compute();
    let Some(backbone) = real_backbone(name, &compute) else { return };
    let preprocessing = &backbone.spec().preprocessing;
    assert_eq!(preprocessing.mean, three(&entry["mean"]), "{name}: mean");
    assert_eq!(preprocessing.std, three(&entry["std"]), "{name}: standard deviation");
    let Some(images) = photographs(entry, preprocessing, &compute.device) else { return };

    let taps: Vec<String> = entry["taps"].as_object().expect("oracle.json lists taps").keys().cloned().collect();
    let observed = backbone.forward(images.clone(), &backbone.taps(&taps).expect("the golden taps"));
    let (shape, expected) = oracle.f32s(&format!("{name}.logits"));
    assert_eq!(observed.logits.dims()[..], shape[..]);
    let classes = indices(&entry["classes"]);
    assert_eq!(predicted(observed.logits.clone()), classes, "{name}: predicted classes");
    check(&format!("{name} logits"), &values(observed.logits), &expected, FORWARD);
    assert_eq!(observed.taps.len(), taps.len());
    for (tap, key) in observed.taps.into_iter().zip(&taps) {
        let (_, expected) = oracle.f32s(&format!("{name}.tap.{key}"));
        check(&format!("{name} {key}"), &probe(&tap_values(tap)), &expected, FORWARD);
    }

    let answer = backbone.vjp(images, &|logits: Tensor<2>, rows: Range<usize>| one_hot(&logits, &classes[rows]));
    let (_, expected) = oracle.f32s(&format!("{name}.input_grad"));
    check(&format!("{name} gradient"), &probe(&tap_values(answer.gradient)), &expected, GRADIENT);
}

#[test]
fn efficientnet_lite0_in1k() {
    is_pytorchs("tf_efficientnet_lite0.in1k");
}

#[test]
fn efficientnet_lite0_clothing10() {
    is_pytorchs("tf_efficientnet_lite0.clothing10");
}

#[test]
fn dinov2_in16() {
    is_pytorchs("vit_small_patch14_dinov2.in16");
}

/// A backbone added to the golden values must not go untested.
#[test]
fn every_golden_backbone_is_tested() {
    let Some(facts) = facts() else { return };
    let mut golden: Vec<&String> = facts["real"].as_object().expect("oracle.json lists backbones").keys().collect();
    let tested = ["tf_efficientnet_lite0.clothing10", "tf_efficientnet_lite0.in1k", "vit_small_patch14_dinov2.in16"];
    golden.sort_unstable();
    assert_eq!(golden, tested);
}
