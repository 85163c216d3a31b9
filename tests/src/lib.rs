//! Shared by the cross-crate tests: golden values, their networks and photographs, and comparison; and the generator of the
//! book's reference pages.
//!
//! If a test needs files outside of the repository and they are missing, the helper that opens them prints why the test is
//! skipped and returns `None`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod reference;
pub mod untrusted;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use burn::tensor::{Device, Int, Tensor, TensorData};
use explainer_zoo::backbone::{Frozen, Tap, architecture};
use explainer_zoo::device::Compute;
use explainer_zoo::image::{Pixels, Preprocessing, decode};
use explainer_zoo::weights::WeightReader;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The folder that an environment variable names, by default `default` in the folder `shared` beside the workspace.
fn folder(variable: &str, default: &str) -> PathBuf {
    let beside = || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(default);
    env::var_os(variable).map_or_else(beside, PathBuf::from)
}

/// The folder of golden values: `EXPLAINER_ORACLE`, by default `../shared/oracle` from the workspace's root.
pub fn oracle_folder() -> PathBuf {
    folder("EXPLAINER_ORACLE", "oracle")
}

/// Where the photographs of a split lie: `EXPLAINER_ORACLE_IMAGES`, by default `../shared/data/imagenet-sample/{split}`.
pub fn images_folder(split: &str) -> PathBuf {
    folder("EXPLAINER_ORACLE_IMAGES", &format!("data/imagenet-sample/{split}"))
}

/// The folder of real weights, `{name}/model.safetensors`: `EXPLAINER_WEIGHTS`, by default `../shared/weights`.
pub fn weights_folder() -> PathBuf {
    folder("EXPLAINER_WEIGHTS", "weights")
}

/// The device that `EXPLAINER_DEVICE` names, by default `flex`.
///
/// # Panics
/// If it is unknown or not compiled in.
pub fn compute() -> Compute {
    let name = env::var("EXPLAINER_DEVICE").unwrap_or_else(|_| "flex".into());
    Compute::new(&name, None).unwrap_or_else(|error| panic!("EXPLAINER_DEVICE: {error}"))
}

/// The golden values `{name}.safetensors`; `None`, with the reason printed, if [`oracle_folder`] lacks them.
pub fn oracle(name: &str) -> Option<Oracle> {
    let path = oracle_folder().join(name).with_extension("safetensors");
    let bytes = or_skip("golden values", "EXPLAINER_ORACLE", &path, fs::read(&path))?;
    Some(Oracle { name: name.to_owned(), bytes })
}

/// The golden values `{name}.safetensors` in `tests/tests/fixtures`, written by the script of the same name.
///
/// # Panics
/// If the file is missing.
pub fn fixture(name: &str) -> Oracle {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("safetensors");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Oracle { name: name.to_owned(), bytes }
}

/// The description of the golden values (`oracle.json`); `None`, with the reason printed, if [`oracle_folder`] lacks it.
///
/// # Panics
/// If it is not JSON.
pub fn facts() -> Option<Value> {
    let path = oracle_folder().join("oracle.json");
    let text = or_skip("golden values", "EXPLAINER_ORACLE", &path, fs::read_to_string(&path))?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn or_skip<T>(what: &str, variable: &str, path: &Path, result: std::io::Result<T>) -> Option<T> {
    result
        .inspect_err(|error| skip(&format!("no {what} at {} ({error}); {variable} names their folder", path.display())))
        .ok()
}

/// Reports why a test is skipped: on standard error, which cargo hides for tests that pass, and in the file that
/// `EXPLAINER_SKIPS` names (an absolute path), if it is set.
///
/// # Panics
/// If that file cannot be written.
pub fn skip(reason: &str) {
    let line = format!("skipped: {reason}\n");
    eprint!("{line}");
    if let Some(path) = env::var_os("EXPLAINER_SKIPS") {
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap_or_else(|e| panic!("EXPLAINER_SKIPS: {e}"));
    }
}

/// A real backbone, `{architecture}.{weights}`; `None`, with the reason printed, if [`weights_folder`] lacks it.
///
/// # Panics
/// If its architecture is unknown or the weights do not fit.
pub fn real_backbone(name: &str, compute: &Compute) -> Option<Frozen> {
    let path = weights_folder().join(name).join("model.safetensors");
    or_skip("weights", "EXPLAINER_WEIGHTS", &path, fs::metadata(&path))?;
    let stem = name.split('.').next().unwrap_or(name);
    let architecture = architecture(stem).unwrap_or_else(|| panic!("no architecture {stem}"));
    let reader = WeightReader::open(&path, &compute.device).unwrap_or_else(|error| panic!("{error}"));
    Some(Frozen::new(architecture, reader, None, compute).unwrap_or_else(|error| panic!("{error}")))
}

/// The photographs that an entry of `oracle.json` names (`split`, `files`), decoded, cropped and normalised:
/// `[B,3,H,W]`. None, with the reason printed, where [`images_folder`] does not exist.
///
/// # Panics
/// If one of them is missing or broken.
pub fn photographs(entry: &Value, preprocessing: &Preprocessing, device: &Device) -> Option<Tensor<4>> {
    let folder = images_folder(entry["split"].as_str().expect("oracle.json names a split"));
    or_skip("photographs", "EXPLAINER_ORACLE_IMAGES", &folder, fs::read_dir(&folder))?;
    let files = entry["files"].as_array().expect("oracle.json lists files");
    let pixels = |file: &Value| {
        let path = folder.join(file.as_str().expect("files are names"));
        let image = decode(&path).unwrap_or_else(|error| panic!("{error}"));
        preprocessing.centre(&image).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let pixels: Vec<Pixels> = files.iter().map(pixels).collect();
    let images = Pixels::to_tensor(&pixels, device).unwrap_or_else(|error| panic!("{error}"));
    Some(preprocessing.normalise(images))
}

/// A list of indices in `oracle.json`, such as `classes`.
///
/// # Panics
/// If it is not one.
pub fn indices(list: &Value) -> Vec<usize> {
    let list = list.as_array().expect("a list of indices");
    list.iter().map(|index| index.as_u64().expect("an index") as usize).collect()
}

/// `[n]` indices on a device.
pub fn int_tensor(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// A tensor's values in row-major order.
///
/// # Panics
/// If the device cannot return them.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("a tensor's values")
}

/// A tap's values in row-major order.
pub fn tap_values(tap: Tap) -> Vec<f32> {
    match tap {
        Tap::Map(map) => values(map),
        Tap::Tokens(tokens) => values(tokens),
    }
}

/// A cotangent for the logits `[n,K]` that picks one class a row.
///
/// # Panics
/// If the number of classes is not that of the rows, or a class is not below K.
pub fn one_hot(logits: &Tensor<2>, classes: &[usize]) -> Tensor<2> {
    let [rows, count] = logits.dims();
    assert_eq!(classes.len(), rows, "one class a row");
    let mut picked = vec![0.0f32; rows * count];
    picked.chunks_mut(count).zip(classes).for_each(|(row, class)| row[*class] = 1.0);
    Tensor::from_data(TensorData::new(picked, [rows, count]), &logits.device())
}

/// The class with the largest logit in each row of `[B,K]`.
pub fn predicted(logits: Tensor<2>) -> Vec<usize> {
    let [_, count] = logits.dims();
    let logits = values(logits);
    let best = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    logits.chunks(count).map(best).collect()
}

/// Side of the images of [`formula_input`].
const SIDE: usize = 224;

/// The values of tensor `name` of this shape in row-major order, as the golden values' networks have them.
///
/// `name` is torchvision's. Scales keep activations of a deep network in a sensible range: He's for convolutions and
/// linear layers, half of it in transformer blocks, and normalisations near the identity.
pub fn formula(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let uniform = uniform(name, shape.iter().product(), seed);
    let around = |centre: f32, scale: f32| -> Vec<f32> { uniform.iter().map(|u| centre + scale * u).collect() };
    let small = ["pos_emb", "token"].iter().any(|part| name.contains(part));
    if name.contains("running_var") {
        uniform.iter().map(|u| 1.0 + 0.5 * u.abs()).collect()
    } else if name.contains("running_mean") {
        around(0.0, 0.1)
    } else if shape.len() >= 2 && !small {
        let fan_in: usize = shape[1..].iter().product();
        let half = if name.contains("encoder") || name.contains("blocks") { 0.5 } else { 1.0 };
        around(0.0, (half * (6.0 / fan_in as f64).sqrt()) as f32)
    } else if shape.len() >= 2 {
        around(0.0, 0.02)
    } else if name.ends_with("weight") || name.ends_with("gamma") {
        around(1.0, 0.1)
    } else {
        around(0.0, 0.1)
    }
}

/// The input `[1,3,224,224]` of the golden values' network `architecture`: values in -2..2.
pub fn formula_input(architecture: &str, seed: u64) -> Vec<f32> {
    uniform(&format!("input.{architecture}"), 3 * SIDE * SIDE, seed).into_iter().map(|u| 2.0 * u).collect()
}

/// Numbers in -1..1 from splitmix64, started at the FNV-1a hash of the name plus the seed.
fn uniform(name: &str, count: usize, seed: u64) -> Vec<f32> {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let start = hash.wrapping_add(seed);
    let number = |i: u64| {
        let mut z = start.wrapping_add(i.wrapping_mul(GAMMA));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 24 bits: exact in f32.
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (1..=count as u64).map(number).collect()
}

/// How many values [`probe`] samples.
const SAMPLES: usize = 64;

/// The golden values' fingerprint of a tensor: mean, unbiased standard deviation, largest magnitude, then 64 values at
/// even distances from the first to the last.
///
/// Its largest value in magnitude is the tensor's, so that [`assert_close`] on probes is relative to that.
pub fn probe(values: &[f32]) -> Vec<f32> {
    let count = values.len() as f64;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // The positions are those of `torch.linspace(0, n - 1, 64).round()`, which counts in f32 from both ends.
    let last = (values.len() - 1) as f32;
    let step = last / (SAMPLES - 1) as f32;
    let position = |i: usize| match i < SAMPLES / 2 {
        true => step * i as f32,
        false => last - step * (SAMPLES - 1 - i) as f32,
    };
    let sample = |i: usize| values[position(i).round_ties_even() as usize];
    [mean as f32, variance.sqrt() as f32, max_abs(values)].into_iter().chain((0..SAMPLES).map(sample)).collect()
}

/// A file of golden values, computed in PyTorch.
#[derive(Debug)]
pub struct Oracle {
    name: String,
    bytes: Vec<u8>,
}

impl Oracle {
    /// Shape and values of an f32 tensor.
    ///
    /// # Panics
    /// If it is missing or of another type; the other readers likewise.
    pub fn f32s(&self, key: &str) -> (Vec<usize>, Vec<f32>) {
        self.read(key, Dtype::F32, f32::from_le_bytes)
    }

    /// Shape and values of an f64 tensor.
    pub fn f64s(&self, key: &str) -> (Vec<usize>, Vec<f64>) {
        self.read(key, Dtype::F64, f64::from_le_bytes)
    }

    /// Shape and values of an i64 tensor.
    pub fn i64s(&self, key: &str) -> (Vec<usize>, Vec<i64>) {
        self.read(key, Dtype::I64, i64::from_le_bytes)
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("golden file {}: {error}", self.name))
    }

    fn read<T, const N: usize>(&self, key: &str, dtype: Dtype, value: fn([u8; N]) -> T) -> (Vec<usize>, Vec<T>) {
        let tensors = self.tensors();
        let tensor = tensors.tensor(key).unwrap_or_else(|error| panic!("golden file {}: {error}", self.name));
        assert_eq!(tensor.dtype(), dtype, "type of {key} in golden file {}", self.name);
        let (values, []) = tensor.data().as_chunks::<N>() else { panic!("{key} ends within a value") };
        (tensor.shape().to_vec(), values.iter().copied().map(value).collect())
    }
}

/// The largest magnitude among `values`.
pub fn max_abs(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |scale, value| scale.max(value.abs()))
}

/// The largest difference, as a fraction of `expected`'s largest magnitude.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    let differences: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
    max_abs(&differences) / max_abs(expected)
}

/// Asserts that `found` is `expected` within `tolerance` of `expected`'s largest magnitude.
///
/// # Panics
/// If it is not, with the first such position.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_within(what, found, expected, tolerance * max_abs(expected));
}

/// Asserts that `found` is `expected` within `limit`.
///
/// # Panics
/// If it is not, with the first such position.
pub fn assert_within(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        let close = (f - e).abs() <= limit;
        assert!(
            close,
            "{what}: {f} instead of {e} at {i}, more than {limit} off; the largest error is {} of the largest value",
            relative_error(found, expected)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first number of splitmix64 seeded with 0 is 0xe220a8397b1dcdaf in every implementation.
    #[test]
    fn the_generator_is_splitmix64() {
        let fnv_offset = 0xcbf2_9ce4_8422_2325_u64;
        let first = uniform("", 1, 0u64.wrapping_sub(fnv_offset))[0];
        assert_eq!(first, 0xe2_20a8_u32 as f32 / 8_388_608.0 - 1.0);
    }

    #[test]
    fn scales_follow_names() {
        let largest = |name: &str, shape: &[usize]| max_abs(&formula(name, shape, 0));
        assert!((0.9..=1.0).contains(&largest("conv.weight", &[64, 6])));
        assert!((0.45..=0.5).contains(&largest("encoder.fc.weight", &[64, 6])));
        assert!((0.018..=0.02).contains(&largest("encoder.pos_embedding", &[1, 64, 6])));
        assert!(formula("bn.weight", &[64], 0).iter().all(|w| (0.9..=1.1).contains(w)));
        assert!(formula("bn.running_var", &[64], 0).iter().all(|w| (1.0..=1.5).contains(w)));
        assert!((0.09..=0.1).contains(&largest("bn.bias", &[64])));
    }
}
