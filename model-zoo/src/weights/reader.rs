//! Reads the tensors of a frozen network by name, checking every name and shape.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use half::{bf16, f16};
use pytorch_reader::PytorchReader;
use safetensors::tensor::Metadata;

use crate::device::Precision;

/// Largest safetensors header this project reads, in bytes: a file that claims more is not a checkpoint.
const MAX_HEADER: u64 = 100 << 20;
/// How many names an error message lists before it only counts the rest.
const LISTED: usize = 12;

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or read.
    #[error("cannot read weights {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not a readable safetensors or PyTorch file.
    #[error(
        "{path} is not a readable {format} file: {reason}; is it complete? compare its size and SHA-256 with where it came from"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that its name or first bytes suggest.
        format: &'static str,
        /// What the parser found.
        reason: String,
    },
    /// The file's tensors are not those of the network.
    #[error("{origin} does not fit {network}:{}", mismatch_text(.missing, .misshaped, .unused))]
    Mismatch {
        /// Where the weights came from.
        origin: String,
        /// The network that was being built.
        network: String,
        /// Tensors the network needs and the file lacks.
        missing: Vec<String>,
        /// Tensors of another shape: name, shape found, shape expected.
        misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
        /// Tensors of the file that the network does not have.
        unused: Vec<String>,
    },
}

fn mismatch_text(missing: &[String], misshaped: &[(String, Vec<usize>, Vec<usize>)], unused: &[String]) -> String {
    let list = |names: &[String]| {
        let mut text = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > LISTED {
            text += &format!(" and {} more", names.len() - LISTED);
        }
        text
    };
    let shapes: Vec<String> =
        misshaped.iter().map(|(name, found, expected)| format!("{name} is {found:?}, expected {expected:?}")).collect();
    let mut text = String::new();
    for (what, names) in [("missing", missing), ("wrong shape", &shapes[..]), ("not part of the network", unused)] {
        if !names.is_empty() {
            text += &format!("\n  {what} ({}): {}", names.len(), list(names));
        }
    }
    text
}

/// Makes the values of a tensor from its name and shape, for tests and timings without a file.
pub type Generator = Box<dyn Fn(&str, &[usize]) -> Vec<f32> + Send>;

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

enum Store {
    Safetensors { bytes: Box<dyn ReadSeek>, data_start: u64, metadata: Metadata },
    PyTorch(HashMap<String, pytorch_reader::Tensor>),
    Generated(Generator),
}

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
        let io = |source| WeightsError::Io { path: path.into(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).map_err(io)?;
        file.rewind().map_err(io)?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        // A cached download may have no extension: a zip archive or a pickle is told by its first bytes.
        let pytorch = ["pth", "pt", "ckpt", "bin"].contains(&extension.as_str())
            || magic.starts_with(b"PK\x03\x04")
            || (extension != "safetensors" && magic.starts_with(b"\x80\x02"));
        let store = if pytorch { open_pytorch(path)? } else { open_safetensors(path, Box::new(file))? };
        Ok(Self::new(store, path.display().to_string(), device))
    }

    /// Reads a safetensors file held in memory, such as one built into the program.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if `bytes` is not a safetensors file; `origin` stands in for its path.
    pub fn from_bytes(bytes: &'static [u8], origin: &str, device: &Device) -> Result<Self, WeightsError> {
        Ok(Self::new(open_safetensors(Path::new(origin), Box::new(Cursor::new(bytes)))?, origin.into(), device))
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
        [Some(name.to_string()), alias].into_iter().flatten().find(|key| self.shape_of_key(key).is_some())
    }

    fn shape_of_key(&self, key: &str) -> Option<Vec<usize>> {
        match &self.store {
            Store::Safetensors { metadata, .. } => metadata.info(key).map(|info| info.shape.clone()),
            Store::PyTorch(tensors) => tensors.get(key).map(|t| t.shape().to_vec()),
            Store::Generated(_) => None,
        }
    }

    /// The shape of a tensor in the file, `None` where there is none; generated weights have no shapes of their own.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.key(name).and_then(|key| self.shape_of_key(&key))
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
        if let Some(found) = self.shape_of_key(&key)
            && !same_layout(&found, shape)
        {
            self.misshaped.push((key, found, shape.to_vec()));
            return None;
        }
        if let Some((_, generate)) = self.random_from.as_ref().filter(|(first, _)| number >= *first) {
            return Some(generate(name, shape));
        }
        match self.read(&key, shape) {
            Ok(values) => Some(values),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    fn read(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let path = PathBuf::from(&self.origin);
        let wrong = |format, reason: String| WeightsError::Format {
            path: path.clone(),
            format,
            reason: format!("tensor {key}: {reason}"),
        };
        match &mut self.store {
            Store::Generated(generate) => Ok(generate(key, shape)),
            Store::PyTorch(tensors) => {
                let Some(tensor) = tensors.get(key) else { return Err(wrong("PyTorch", "is gone".into())) };
                let dtype = format!("{:?}", tensor.dtype());
                let raw = tensor.read().map_err(|e| wrong("PyTorch", e.to_string()))?;
                let values = decode(&raw, &dtype).map_err(|reason| wrong("PyTorch", reason))?;
                match elements(shape) {
                    Some(count) if count == values.len() => Ok(values),
                    _ => Err(wrong("PyTorch", format!("has {} values, expected those of {shape:?}", values.len()))),
                }
            }
            Store::Safetensors { bytes, data_start, metadata } => {
                let Some(info) = metadata.info(key) else { return Err(wrong("safetensors", "is gone".into())) };
                let (start, end) = info.data_offsets;
                let mut raw = vec![0; end - start];
                bytes
                    .seek(SeekFrom::Start(*data_start + start as u64))
                    .and_then(|_| bytes.read_exact(&mut raw))
                    .map_err(|e| wrong("safetensors", e.to_string()))?;
                decode(&raw, &format!("{:?}", info.dtype)).map_err(|reason| wrong("safetensors", reason))
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
        let mut unused: Vec<String> = match &self.store {
            Store::Safetensors { metadata, .. } => metadata.tensors().into_keys().collect(),
            Store::PyTorch(tensors) => tensors.keys().cloned().collect(),
            Store::Generated(_) => Vec::new(),
        };
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

/// The number of values of a shape; none where no number is as large.
fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1, |count: usize, side| count.checked_mul(*side))
}

fn open_pytorch(path: &Path) -> Result<Store, WeightsError> {
    let wrong = |reason: String| WeightsError::Format { path: path.into(), format: "PyTorch", reason };
    let mut tensors = PytorchReader::new(path).map_err(|e| wrong(e.to_string()))?.into_tensors();
    for key in ["state_dict.", "model."] {
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(key)) {
            tensors = tensors.into_iter().map(|(name, t)| (name[key.len()..].to_string(), t)).collect();
        }
    }
    if tensors.is_empty() {
        return Err(wrong("it holds no tensors".into()));
    }
    Ok(Store::PyTorch(tensors))
}

fn open_safetensors(path: &Path, mut bytes: Box<dyn ReadSeek>) -> Result<Store, WeightsError> {
    let wrong = |reason: String| WeightsError::Format { path: path.into(), format: "safetensors", reason };
    let io = |source| WeightsError::Io { path: path.into(), source };
    let length = bytes.seek(SeekFrom::End(0)).and_then(|n| bytes.rewind().map(|()| n)).map_err(io)?;
    let mut prefix = [0u8; 8];
    if length < 8 {
        return Err(wrong(format!("{length} bytes are too few")));
    }
    bytes.read_exact(&mut prefix).map_err(io)?;
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER.min(length - 8) {
        return Err(wrong(format!("its header claims {header} bytes, the file has {length}")));
    }
    let mut head = Vec::new();
    bytes.by_ref().take(header).read_to_end(&mut head).map_err(io)?;
    // The tensors stay in the file: of the format's own checks only the one against the file's length is left to do.
    let metadata: Metadata = serde_json::from_slice(&head).map_err(|e| wrong(e.to_string()))?;
    let data_start = header + 8;
    let expected = metadata.data_len() as u64;
    if length - data_start != expected {
        return Err(wrong(format!(
            "its header describes {expected} bytes of tensors, {} are there",
            length - data_start
        )));
    }
    Ok(Store::Safetensors { bytes, data_start, metadata })
}

/// Little-endian floating-point bytes to f32; `dtype` is the format's own name for the element type.
fn decode(raw: &[u8], dtype: &str) -> Result<Vec<f32>, String> {
    fn each<const N: usize>(raw: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        raw.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
    }
    match dtype {
        "F32" => Ok(each(raw, f32::from_le_bytes)),
        "F64" => Ok(each(raw, |b| f64::from_le_bytes(b) as f32)),
        "F16" => Ok(each(raw, |b| f16::from_le_bytes(b).to_f32())),
        "BF16" => Ok(each(raw, |b| bf16::from_le_bytes(b).to_f32())),
        other => Err(format!("has element type {other}, expected F32, F16, BF16 or F64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView};

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
