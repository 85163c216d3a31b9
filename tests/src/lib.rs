//! What the cross-crate tests share: golden values and comparison with them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is not as it should be")]

use std::{env, fs, path::PathBuf};

use safetensors::{Dtype, SafeTensors};

/// A file of golden values, computed in PyTorch.
#[derive(Debug)]
pub struct Oracle {
    name: String,
    bytes: Vec<u8>,
}

/// The golden values `{name}.safetensors` in the folder `EXPLAINER_ORACLE` (by default `../shared/oracle` from the
/// workspace's root), or none, with the reason printed, where the folder lacks it.
pub fn oracle(name: &str) -> Option<Oracle> {
    let folder = env::var_os("EXPLAINER_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle")), PathBuf::from);
    let path = folder.join(name).with_extension("safetensors");
    match fs::read(&path) {
        Ok(bytes) => Some(Oracle { name: name.to_owned(), bytes }),
        Err(error) => {
            eprintln!("skipped: no golden values at {} ({error}); EXPLAINER_ORACLE names their folder", path.display());
            None
        }
    }
}

impl Oracle {
    /// Shape and values of an f32 tensor.
    ///
    /// # Panics
    /// Where it is missing or of another type, as the other readers.
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

/// Asserts that `found` is `expected` within `tolerance` of `expected`'s largest magnitude.
///
/// # Panics
/// Where it is not, with the worst place.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let scale = expected.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        let close = (f - e).abs() <= tolerance * scale;
        assert!(close, "{what}: {f} instead of {e} at {i}, more than {tolerance} of {scale}");
    }
}
