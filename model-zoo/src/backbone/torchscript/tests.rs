//! The engine on the small files of `tests/fixtures/torchscript`, which `torchscript.py` beside them wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::Range;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

use super::TorchScript;
use crate::backbone::{Backbone, Tap, TapSpec};
use crate::device::Compute;
use crate::image::{Filter, Preprocessing};

/// Relative to the largest value, between two builds of LibTorch.
const CLOSE: f32 = 1e-5;
/// The same for bf16, which has 8 bits.
const COARSE: f32 = 3e-2;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torchscript").join(name)
}

fn plain() -> Preprocessing {
    Preprocessing { resize: 96, crop: 96, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
}

fn load(name: &str, device: &str) -> Result<TorchScript, String> {
    let compute = Compute::new(device, Some(2)).unwrap();
    // The others have metadata.
    let silent = ["logits.pt", "listed.pt", "other.pt", "fails.pt", "cut.pt", "writes.pt", "oblong.pt"];
    let preprocessing = silent.contains(&name).then(plain);
    TorchScript::load(&file(name), "0".into(), preprocessing.as_ref(), &compute).map_err(|error| error.to_string())
}

/// PyTorch's values of the classifier `tiny`.
fn golden(name: &str) -> TensorData {
    let bytes = std::fs::read(file("tiny.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let (values, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    TensorData::new(values, view.shape().to_vec())
}

/// Those of the script: numbers in -2..2.
fn images(device: &Device) -> Tensor<4> {
    let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 22) as f32 - 2.0;
    Tensor::from_data(TensorData::new((0..3 * 3 * 96 * 96).map(number).collect(), [3, 3, 96, 96]), device)
}

/// The values that the script kept.
fn kept(tap: Tap) -> Vec<f32> {
    values(tap).into_iter().step_by(61).collect()
}

fn values(tap: Tap) -> Vec<f32> {
    let data = match tap {
        Tap::Map(map) => map.into_data(),
        Tap::Tokens(tokens) => tokens.into_data(),
    };
    data.iter::<f32>().collect()
}

fn assert_golden(what: &str, found: &[f32], limit: f32) {
    let expected: Vec<f32> = golden(what).iter::<f32>().collect();
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = found.iter().zip(&expected).fold(0.0_f32, |off, (f, e)| off.max((f - e).abs()));
    assert!(off <= limit * largest && found.iter().all(|v| v.is_finite()), "{what} is {off} off, of {largest}");
}

/// The norm of the difference from PyTorch's values over the norm of these.
fn off_in_norm(what: &str, found: &[f32]) -> f32 {
    let expected: Vec<f32> = golden(what).iter::<f32>().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    norm(&mut found.iter().zip(&expected).map(|(f, e)| f - e)) / norm(&mut expected.iter().copied())
}

/// The cotangent of class 3.
fn third(logits: Tensor<2>, _: Range<usize>) -> Tensor<2> {
    let [rows, classes] = logits.dims();
    let row: Vec<f32> = (0..classes).map(|class| if class == 3 { 1.0 } else { 0.0 }).collect();
    Tensor::<1>::from_data(TensorData::new(row, [classes]), &logits.device()).unsqueeze::<2>().repeat_dim(0, rows)
}

fn logits(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[test]
fn numbers_are_pytorchs_on_every_device() {
    // PyTorch's own gradient in bf16 is 0.11 off, where rectifiers close.
    let files = [
        ("tiny.pt", CLOSE, CLOSE),
        ("frozen.pt", CLOSE, CLOSE),
        ("bfloat16.pt", COARSE, 0.2),
        ("packed.pt", CLOSE, CLOSE),
    ];
    for (name, limit, norm) in files {
        for device in ["flex", "tch"] {
            let backbone = load(name, device).unwrap();
            let images = images(&Compute::new(device, None).unwrap().device);
            let spec = backbone.spec();
            assert_eq!((spec.classes, spec.preprocessing.crop, spec.preprocessing.std), (10, 96, [0.25; 3]));
            assert_eq!(spec.taps, [TapSpec::map("first", 4, 4), TapSpec::map("second", 6, 16)]);
            // In another order than they come in.
            let ids = backbone.taps(&["second".into(), "first".into()]).unwrap();
            let mut observed = backbone.forward(images.clone(), &ids);
            assert_golden("logits", &logits(observed.logits), limit);
            assert_golden("first", &kept(observed.taps.pop().unwrap()), limit);
            assert_golden("second", &values(observed.taps.pop().unwrap()), limit);
            let answer = backbone.vjp(images, &third);
            assert_golden("logits", &logits(answer.logits), limit);
            let off = off_in_norm("gradient", &kept(answer.gradient));
            assert!(off <= norm, "{name} on {device}: the gradient is {off} off in norm");
            assert!(backbone.failure().is_none());
        }
    }
}

#[test]
fn a_single_image_is_computed_with_packed_weights() {
    let mut backbone = load("packed.pt", "flex").unwrap();
    assert!(load("tiny.pt", "flex").unwrap().module.packed.is_none());
    let images = images(&Device::flex());
    let ids = backbone.taps(&["second".into()]).unwrap();
    let alone = |backbone: &TorchScript| {
        let (mut rows, mut taps) = (Vec::new(), Vec::new());
        for i in 0..3 {
            let mut observed = backbone.forward(images.clone().narrow(0, i, 1), &ids);
            rows.extend(logits(observed.logits));
            taps.extend(values(observed.taps.remove(0)));
        }
        (rows, taps)
    };
    let (rows, taps) = alone(&backbone);
    assert_golden("logits", &rows, CLOSE);
    assert_golden("second", &taps, CLOSE);

    // Zero packed weights change a single image, not a batch.
    let (emptied, count) = backbone.module.packed.take().unwrap().emptied();
    assert_eq!(count, 2);
    backbone.module.packed = Some(emptied);
    assert_ne!(alone(&backbone).0, rows);
    assert_golden("logits", &logits(backbone.forward(images.clone(), &ids).logits), CLOSE);
    // Nor the last image of a batch, which is a chunk of its own.
    let many = Tensor::cat((0..9).map(|i| images.clone().narrow(0, i % 3, 1)).collect(), 0);
    let last = backbone.forward(many, &[]).logits.narrow(0, 6, 3);
    assert_golden("logits", &logits(last), CLOSE);
    assert!(backbone.failure().is_none());
}

#[test]
fn packed_weights_that_do_not_agree_are_not_used() {
    let images = images(&Device::flex());
    for name in ["unpackable.pt", "misled.pt", "unobserved.pt", "strayed.pt"] {
        let backbone = load(name, "flex").unwrap();
        assert!(backbone.module.packed.is_none(), "{name}");
        let mean = |image: Tensor<4>| logits(image.mean_dim(3).mean_dim(2).reshape([1, 3]));
        let image = images.clone().narrow(0, 0, 1);
        let (found, expected) = (logits(backbone.forward(image.clone(), &[]).logits), mean(image));
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < CLOSE), "{name}: {found:?}, {expected:?}");
        assert!(backbone.failure().is_none());
    }
}

#[test]
fn a_tap_is_replaced() {
    for device in ["flex", "tch"] {
        let backbone = load("tiny.pt", device).unwrap();
        assert!(backbone.can_replace_taps());
        let images = images(&Compute::new(device, None).unwrap().device);
        let ids = backbone.taps(&["second".into()]).unwrap();
        let Tap::Map(own) = backbone.forward(images.clone(), &ids).taps.remove(0) else { panic!("no map") };
        let answer = backbone.vjp_at(images.clone(), ids[0], Tap::Map(own.clone() * 0.5), &third);
        assert_golden("replaced.logits", &logits(answer.logits), CLOSE);
        assert_golden("replaced.gradient", &values(answer.gradient), CLOSE);
        // Two an image, the second of them its own.
        let rows = (0..3).flat_map(|i| [own.clone().narrow(0, i, 1) * 0.5, own.clone().narrow(0, i, 1)]);
        let pairs = backbone.vjp_at(images.clone(), ids[0], Tap::Map(Tensor::cat(rows.collect(), 0)), &third);
        let rows: Vec<f32> = logits(pairs.logits);
        let every = |from: usize| rows.chunks(10).skip(from).step_by(2).flatten().copied().collect::<Vec<_>>();
        assert_golden("replaced.logits", &every(0), CLOSE);
        assert_golden("logits", &every(1), CLOSE);
        assert!(backbone.failure().is_none());
    }
}

#[test]
fn a_batch_of_several_chunks_keeps_its_order() {
    let backbone = load("tiny.pt", "flex").unwrap();
    let images = images(&Device::flex());
    let many = Tensor::cat((0..35).map(|i| images.clone().narrow(0, i % 3, 1)).collect(), 0);
    let seen = std::sync::Mutex::new(Vec::new());
    let cotangent = |logits: Tensor<2>, range: Range<usize>| {
        seen.lock().unwrap().push((logits.dims()[0], range.clone()));
        third(logits, range)
    };
    let answer = backbone.vjp(many.clone(), &cotangent);
    assert_eq!(seen.into_inner().unwrap(), [(8, 0..8), (8, 8..16), (8, 16..24), (8, 24..32), (3, 32..35)]);
    let Tap::Map(gradient) = answer.gradient else { panic!("no map") };
    assert_golden("gradient", &kept(Tap::Map(gradient.narrow(0, 30, 3))), CLOSE);
    let ids = backbone.taps(&["first".into()]).unwrap();
    let observed = backbone.forward(many, &ids);
    assert_golden("logits", &logits(observed.logits.narrow(0, 15, 3)), CLOSE);
    assert_golden("first", &kept(observed.taps[0].rows(15, 3)), CLOSE);
}

#[test]
fn logits_alone_and_taps_without_names_are_parsed() {
    let alone = load("logits.pt", "flex").unwrap();
    assert!(alone.spec().taps.is_empty() && alone.spec().classes == 3 && !alone.can_replace_taps());
    let listed = load("listed.pt", "tch").unwrap();
    assert_eq!(listed.spec().taps, [TapSpec::map("0", 3, 8), TapSpec::map("1", 3, 8)]);
    let device = Compute::new("tch", None).unwrap().device;
    // They are one tensor in LibTorch; a change of one must not change the other.
    let taps = listed.forward(images(&device), &listed.taps(&["0".into(), "1".into()]).unwrap()).taps;
    let [Tap::Map(first), Tap::Map(second)] = <[Tap; 2]>::try_from(taps).unwrap() else { panic!("no maps") };
    let before = second.clone().into_data();
    drop(first.mul_scalar(0.0).into_data());
    assert_eq!(second.into_data(), before);
}

#[test]
fn what_is_not_a_classifier_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.pt");
    std::fs::write(&text, "weights").unwrap();
    let refused = TorchScript::load(&text, "0".into(), Some(&plain()), &Compute::default()).unwrap_err().to_string();
    assert!(
        refused.contains("text.pt: LibTorch cannot load it as TorchScript") && refused.lines().count() == 1,
        "{refused}"
    );
    let refused = load("other.pt", "flex").unwrap_err();
    assert!(refused.contains("for images [2, 3, 96, 96] it returned a dict; expected logits [B,K]"), "{refused}");
    let refused = load("writes.pt", "flex").unwrap_err();
    assert!(refused.contains("writes.pt: it writes into its input images"), "{refused}");
    let refused = load("oblong.pt", "flex").unwrap_err();
    assert!(refused.contains("tap 0 of shape [2, 3, 8, 96], which is no square map"), "{refused}");
    let refused = TorchScript::load(&file("logits.pt"), "0".into(), None, &Compute::default()).unwrap_err().to_string();
    assert!(refused.contains("its preprocessing is not known") && refused.contains("preprocessing"), "{refused}");
}

#[test]
fn a_failure_is_kept_until_it_is_read() {
    for device in ["flex", "tch"] {
        let backbone = load("fails.pt", device).unwrap();
        let images = images(&Compute::new(device, None).unwrap().device);
        let observed = backbone.forward(images.clone(), &[]);
        assert!(logits(observed.logits).iter().all(|value| value.is_nan()));
        let text = backbone.failure().unwrap().to_string();
        assert!(text.contains("fails.pt: failed on images [3, 3, 96, 96]: "), "{text}");
        assert!(text.contains("out of paper") && text.lines().count() == 1, "{text}");
        assert!(backbone.failure().is_none());
        // Later calls are not affected.
        let answer = backbone.vjp(images.narrow(0, 0, 2), &|logits, _| logits.ones_like());
        assert!(values(answer.gradient).iter().all(|value| (value * 9216.0 - 1.0).abs() < 1e-5));
        assert!(backbone.failure().is_none());
    }
}

#[test]
fn logits_without_a_gradient_are_an_error() {
    let backbone = load("cut.pt", "flex").unwrap();
    let images = images(&Device::flex());
    let answer = backbone.vjp(images.clone(), &ones);
    assert!(values(answer.gradient).iter().all(|value| value.is_nan()));
    let text = backbone.failure().unwrap().to_string();
    assert!(text.contains("cut.pt: no gradient reaches its images"), "{text}");
    let listed = load("listed.pt", "flex").unwrap();
    let ids = listed.taps(&["1".into()]).unwrap();
    let feature = listed.forward(images.clone(), &ids).taps.remove(0);
    assert!(values(listed.vjp_at(images, ids[0], feature, &ones).gradient)[0].is_nan());
    let text = listed.failure().unwrap().to_string();
    assert!(text.contains("cannot replace the feature map of tap 1"), "{text}");
}

fn ones(logits: Tensor<2>, _: Range<usize>) -> Tensor<2> {
    logits.ones_like()
}

#[test]
fn a_gpu_that_does_not_exist_is_an_error() {
    let compute = Compute { name: "cuda:63".into(), ..Compute::default() };
    let refused = TorchScript::load(&file("tiny.pt"), "0".into(), None, &compute).unwrap_err().to_string();
    assert!(refused.starts_with("backbone torchscript on \"cuda:63\": LibTorch found "), "{refused}");
}
