//! Reads the tensors of a frozen network by name, checking every name and shape.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::error::WeightsError;
use super::store::{Generator, Store, elements};
use crate::device::Precision;

/// The tensors of one network, handed out by name.
///
/// Problems are collected while the network is built and reported all together by [`WeightReader::finish`], so that one
/// error lists every missing, mis-shaped and superfluous name. Until then a tensor with a problem reads as zeros.
pub struct WeightReader {
    store: Store,
    origin: String,
    device: Device,
    precision: Precision,
    generated_classes: Option<usize>,
    alias: fn(&str) -> Option<String>,
    random_from: Option<(usize, Generator)>,
    taken: Vec<String>,
    used: BTreeSet<String>,
    missing: Vec<String>,
    misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    failed: Option<WeightsError>,
}

impl WeightReader {
    /// Opens a `.safetensors` file (f32, f16, bf16) or a PyTorch `.pth`/`.pt` file; tensors go to `device` as f32.
    ///
    /// A PyTorch file is parsed as data: nothing in it is executed. A state dict under one of the usual top-level keys
    /// (`state_dict`, `model`) is found by itself.
    ///
    /// # Errors
    /// [`WeightsError::Io`] and [`WeightsError::Format`].
    pub fn open(path: &Path, device: &Device) -> Result<Self, WeightsError> {
        let store = Store::open(path)?;
        Ok(Self::new(store, path.display().to_string(), device))
    }

    /// Reads a safetensors file held in memory, such as one built into the program.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if `bytes` is not a safetensors file; `origin` stands in for its path.
    pub fn from_bytes(bytes: &'static [u8], origin: &str, device: &Device) -> Result<Self, WeightsError> {
        Ok(Self::new(Store::in_memory(bytes, origin)?, origin.into(), device))
    }

    /// Tensors made by `generate(name, shape)` instead of read from a file.
    pub fn generated(generate: Generator, device: &Device) -> Self {
        Self::new(Store::Generated(generate), "generated weights".into(), device)
    }

    fn new(store: Store, origin: String, device: &Device) -> Self {
        Self {
            store,
            origin,
            device: device.clone(),
            precision: Precision::F32,
            generated_classes: None,
            alias: |_| None,
            random_from: None,
            taken: Vec::new(),
            used: BTreeSet::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
            failed: None,
        }
    }

    /// Gives the reader a second naming scheme: `alias(name)` is looked up where `name` itself is not in the file.
    ///
    /// A network asks by one convention's names and thereby accepts both.
    pub fn with_alias(mut self, alias: fn(&str) -> Option<String>) -> Self {
        self.alias = alias;
        self
    }

    /// Tensors are made in this precision; f32 without it.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Generated weights are those of a classifier of so many classes; 1000 without it.
    pub fn with_classes(mut self, classes: usize) -> Self {
        self.generated_classes = Some(classes);
        self
    }

    /// From tensor number `first` on, in the order in which the network takes them, values are made by `generate` instead
    /// of read. That the file has these tensors too, in their shapes, is checked all the same.
    pub fn with_random_from(mut self, first: usize, generate: Generator) -> Self {
        self.random_from = Some((first, generate));
        self
    }

    /// The device that tensors are put on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The name under which the file holds `name`.
    fn key(&self, name: &str) -> Option<String> {
        if let Store::Generated(_) = self.store {
            return Some(name.into());
        }
        let alias = (self.alias)(name);
        [Some(name.to_string()), alias].into_iter().flatten().find(|key| self.store.shape(key).is_some())
    }

    /// The shape of a tensor in the file, `None` where there is none; generated weights have no shapes of their own.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.key(name).and_then(|key| self.store.shape(&key))
    }

    /// The length of a tensor's first axis, by which a classifier head tells its number of classes; `otherwise` for
    /// generated weights.
    pub fn rows(&self, name: &str, otherwise: usize) -> usize {
        let own = self.shape(name).and_then(|shape| shape.first().copied());
        own.or(self.generated_classes).unwrap_or(otherwise)
    }

    /// Takes a tensor's values in row-major order as f32, checking its shape.
    ///
    /// A file may hold the same values under a shape with extra axes of length one, or flattened axes (a linear layer
    /// stored as a convolution): that fits, other shapes with as many elements do not.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.fitting_values(name, shape).unwrap_or_else(|| vec![0.0; shape.iter().product()])
    }

    /// As [`WeightReader::values`], but nothing in place of a tensor with a problem: where the shape itself is what a
    /// stranger claims, no more memory is taken than the file has values for.
    pub fn fitting_values(&mut self, name: &str, shape: &[usize]) -> Option<Vec<f32>> {
        let number = self.taken.len();
        self.taken.push(name.into());
        let Some(key) = self.key(name) else {
            self.missing.push(name.into());
            return None;
        };
        self.used.insert(key.clone());
        if let Some(found) = self.store.shape(&key)
            && !same_layout(&found, shape)
        {
            self.misshaped.push((key, found, shape.to_vec()));
            return None;
        }
        if let Some((_, generate)) = self.random_from.as_ref().filter(|(first, _)| number >= *first) {
            return Some(generate(name, shape));
        }
        match self.store.read(&self.origin, &key, shape) {
            Ok(values) => Some(values),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    /// Takes a tensor of rank `D` to the reader's device; see [`WeightReader::values`].
    pub fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let values = self.values(name, &shape);
        self.place(values, shape)
    }

    /// Values in row-major order as a tensor, on the reader's device and in its precision.
    pub fn place<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        let tensor = Tensor::from_data(TensorData::new(values, shape), &self.device);
        match self.precision {
            Precision::F32 => tensor,
            Precision::Bf16 => tensor.cast(FloatDType::BF16),
        }
    }

    /// Checks that the file held every tensor that was asked for, in its shape, and nothing else. The names of the tensors,
    /// in the order in which they were taken.
    ///
    /// Counters of PyTorch's batch normalisation (`num_batches_tracked`) are no weights and may remain.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with all names, or the first [`WeightsError::Format`] met while reading.
    pub fn finish(self, network: &str) -> Result<Vec<String>, WeightsError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut unused = self.store.names();
        unused.retain(|name| !self.used.contains(name) && !name.ends_with("num_batches_tracked"));
        unused.sort();
        if self.missing.is_empty() && self.misshaped.is_empty() && unused.is_empty() {
            return Ok(self.taken);
        }
        Err(WeightsError::Mismatch {
            origin: self.origin,
            network: network.into(),
            missing: self.missing,
            misshaped: self.misshaped,
            unused,
        })
    }
}

/// Whether two shapes hold the same values in the same order with trailing axes merged or split off as length one.
fn same_layout(found: &[usize], expected: &[usize]) -> bool {
    let same_count = elements(found).is_some() && elements(found) == elements(expected);
    found == expected
        || (same_count && !found.is_empty() && found.first() == expected.first() && found.len() != expected.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use safetensors::tensor::{Dtype, TensorView};
    use std::path::PathBuf;

    fn file(folder: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> PathBuf {
        let path = folder.join("w.safetensors");
        let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn every_float_type_reads_as_f32() {
        let folder = tempfile::tempdir().unwrap();
        let half = |v: f32| f16::from_f32(v).to_le_bytes().to_vec();
        let brain = |v: f32| bf16::from_f32(v).to_le_bytes().to_vec();
        let path = file(
            folder.path(),
            &[
                ("a", Dtype::F32, vec![2], bytes(&[1.5, -2.0])),
                ("b", Dtype::F16, vec![1], half(0.25)),
                ("c", Dtype::BF16, vec![1], brain(-8.0)),
            ],
        );
        let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
        assert_eq!(reader.values("a", &[2]), [1.5, -2.0]);
        assert_eq!(reader.values("b", &[1]), [0.25]);
        assert_eq!(reader.values("c", &[1]), [-8.0]);
        reader.finish("test").unwrap();
    }

    #[test]
    fn one_error_lists_every_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(
            folder.path(),
            &[
                ("wide", Dtype::F32, vec![1, 2], bytes(&[0.0, 0.0])),
                ("stranger", Dtype::F32, vec![1], bytes(&[0.0])),
                ("bn.num_batches_tracked", Dtype::I64, vec![], 0i64.to_le_bytes().to_vec()),
            ],
        );
        let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
        reader.values("wide", &[2, 2]);
        reader.values("absent", &[1]);
        let text = reader.finish("tiny").unwrap_err().to_string();
        for part in
            ["tiny", "wide is [1, 2], expected [2, 2]", "missing (1): absent", "not part of the network (1): stranger"]
        {
            assert!(text.contains(part), "{part:?} not in {text}");
        }
        assert!(!text.contains("num_batches_tracked"), "{text}");
    }

    #[test]
    fn nothing_is_allocated_for_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), &[("a", Dtype::F32, vec![2], bytes(&[1.0, 2.0]))]);
        let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
        let huge = [usize::MAX / 8, 8, 8]; // zeros of this shape would end the program
        assert_eq!(reader.fitting_values("a", &huge), None);
        assert_eq!(reader.fitting_values("b", &huge), None);
        assert_eq!(reader.fitting_values("a", &[2]), Some(vec![1.0, 2.0]));
        let text = reader.finish("huge").unwrap_err().to_string();
        assert!(text.contains("a is [2], expected") && text.contains("missing (1): b"), "{text}");
    }

    /// `tests/fixtures/lightning.py` writes the file: a tensor of 2 x 3 values whose storage has four.
    #[test]
    fn a_pytorch_tensor_with_too_few_values_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/short.pth");
        let Err(error) = WeightReader::open(&path, &Device::default()) else { panic!("it was accepted") };
        let text = error.to_string();
        assert!(matches!(error, WeightsError::Format { .. }) && text.contains("[2, 3]"), "{text}");
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), &[("a", Dtype::F32, vec![4], bytes(&[0.0; 4]))]);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 7, 9, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let Err(error) = WeightReader::open(&path, &Device::default()) else {
                panic!("{length} bytes were accepted")
            };
            assert!(matches!(error, WeightsError::Format { .. }), "{error}");
        }
        let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
        std::fs::write(&path, huge).unwrap();
        assert!(WeightReader::open(&path, &Device::default()).is_err());
    }
}
