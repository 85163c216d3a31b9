//! The formats of weights: names, shapes and values of a file's tensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use pytorch_reader::PytorchReader;
use safetensors::tensor::Metadata;

use super::error::WeightsError;
use crate::stand_in::{BEGINNING, stand_in};

/// The largest safetensors header that is read, in bytes: a file that claims more is not a checkpoint.
const MAX_HEADER: u64 = 100 << 20;

/// Generates the values of a tensor from its name and shape, for tests and timings without a file.
pub type Generator = Box<dyn Fn(&str, &[usize]) -> Vec<f32> + Send>;

pub(super) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// The tensors of a file, or a generator of tensors.
pub(super) enum Store {
    Safetensors { bytes: Box<dyn ReadSeek>, data_start: u64, metadata: Metadata },
    PyTorch(HashMap<String, pytorch_reader::Tensor>),
    Generated(Generator),
}

impl Store {
    /// Opens a file, whose format is known by its name or its first bytes.
    ///
    /// # Errors
    /// [`WeightsError::Io`] and [`WeightsError::Format`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.into(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut magic = Vec::new();
        file.by_ref().take(BEGINNING as u64).read_to_end(&mut magic).map_err(io)?;
        if let Some(what) = stand_in(&magic) {
            return Err(WeightsError::StandIn { path: path.into(), what });
        }
        file.rewind().map_err(io)?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        // A cached download may have no extension: a zip archive or a pickle is known by its first bytes.
        let pytorch = ["pth", "pt", "ckpt", "bin"].contains(&extension.as_str())
            || magic.starts_with(b"PK\x03\x04")
            || (extension != "safetensors" && magic.starts_with(b"\x80\x02"));
        if pytorch { open_pytorch(path) } else { open_safetensors(path, Box::new(file)) }
    }

    /// A safetensors file in memory; `origin` stands in for its path.
    ///
    /// # Errors
    /// [`WeightsError::Format`].
    pub fn in_memory(bytes: &'static [u8], origin: &str) -> Result<Self, WeightsError> {
        open_safetensors(Path::new(origin), Box::new(Cursor::new(bytes)))
    }

    /// The names of all tensors; empty if they are generated.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Safetensors { metadata, .. } => metadata.tensors().into_keys().collect(),
            Self::PyTorch(tensors) => tensors.keys().cloned().collect(),
            Self::Generated(_) => Vec::new(),
        }
    }

    /// The shape of a tensor, `None` if there is none or if tensors are generated.
    pub fn shape(&self, key: &str) -> Option<Vec<usize>> {
        match self {
            Self::Safetensors { metadata, .. } => metadata.info(key).map(|info| info.shape.clone()),
            Self::PyTorch(tensors) => tensors.get(key).map(|t| t.shape().to_vec()),
            Self::Generated(_) => None,
        }
    }

    /// A tensor's values, as many as `shape` has; `origin` is the file's name in errors.
    ///
    /// # Errors
    /// [`WeightsError::Format`].
    pub fn read(&mut self, origin: &str, key: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let wrong = |format, reason: String| WeightsError::Format {
            path: PathBuf::from(origin),
            format,
            reason: format!("tensor {key}: {reason}"),
        };
        match self {
            Self::Generated(generate) => Ok(generate(key, shape)),
            Self::PyTorch(tensors) => {
                let Some(tensor) = tensors.get(key) else { return Err(wrong("PyTorch", "is gone".into())) };
                let dtype = format!("{:?}", tensor.dtype());
                let raw = tensor.read().map_err(|e| wrong("PyTorch", e.to_string()))?;
                let values = decode(&raw, &dtype).map_err(|reason| wrong("PyTorch", reason))?;
                match elements(shape) {
                    Some(count) if count == values.len() => Ok(values),
                    _ => Err(wrong("PyTorch", format!("has {} values, expected those of {shape:?}", values.len()))),
                }
            }
            Self::Safetensors { bytes, data_start, metadata } => {
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
}

/// The number of values of a shape; `None` if it is too large for a number.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
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
    // The tensors stay in the file: of the format's checks only that of the file's length remains.
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
