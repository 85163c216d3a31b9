//! Where tensors live and how many threads compute.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use burn::tensor::{Device, FloatDType};
use serde::Deserialize;

/// The type that frozen networks compute in. Explainers, losses and what passes between them and a network are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Precision {
    /// 32 bits.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// Brain floating point: 16 bits, of them 8 of precision.
    #[serde(rename = "bfloat16")]
    Bf16,
}

/// A device and the CPU threads that work beside it.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device by the name the user gave, such as `flex` or `cuda:0`.
    pub name: String,
    /// Its Burn device, without autodiff.
    pub device: Device,
    /// CPU threads, at least one.
    pub threads: usize,
    /// What frozen networks compute in.
    pub precision: Precision,
}

/// A device that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No kind of device has this name.
    #[error("unknown device {0:?}; devices are flex (CPU), cuda:N, wgpu, wgpu:N, tch and tch:N")]
    Unknown(String),
    /// The number behind the colon is none.
    #[error("device {0:?}: expected a number behind the colon, as in cuda:0")]
    Index(String),
    /// The machine has no device of this number.
    #[error("there is no device {name:?}: found {count} of this kind, numbered from 0")]
    Absent {
        /// What was asked for.
        name: String,
        /// How many of the kind there are.
        count: usize,
    },
    /// The program was built without it.
    #[error("device {name:?} is not built in; build with `--features {feature}`")]
    NotBuilt {
        /// What was asked for.
        name: String,
        /// The Cargo feature that has it.
        feature: &'static str,
    },
    /// It has no arithmetic in bf16.
    #[error(
        "device {0:?} does not compute in bf16; take `precision: f32`, a device that does (cuda), or export the classifier for \
         LibTorch with `model-zoo/scripts/export_torchscript.py --bfloat16`"
    )]
    NoBf16(String),
}

impl Compute {
    /// The device called `name` with `threads` CPU threads, by default all.
    ///
    /// | name | device |
    /// |---|---|
    /// | `flex`, `cpu` | the CPU |
    /// | `cuda`, `cuda:N` | the first, or the Nth, NVIDIA GPU |
    /// | `wgpu`, `wgpu:N` | the adapter that wgpu prefers, or the Nth that it lists |
    /// | `tch`, `tch:N` | libtorch on the CPU, or on the Nth NVIDIA GPU |
    ///
    /// # Errors
    /// [`DeviceError`] names the device and, if it is not compiled in, the feature to build with.
    pub fn new(name: &str, threads: Option<usize>) -> Result<Self, DeviceError> {
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| DeviceError::Index(name.into()))?)),
            None => (name, None),
        };
        let device = match kind {
            "flex" | "cpu" if index.unwrap_or(0) > 0 => {
                return Err(DeviceError::Absent { name: name.into(), count: 1 });
            }
            "flex" | "cpu" => Device::flex(),
            "cuda" => cuda(name, index)?,
            "wgpu" => wgpu(name, index)?,
            "tch" => tch(name, index)?,
            _ => return Err(DeviceError::Unknown(name.into())),
        };
        let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get)).max(1);
        Ok(Self { name: name.into(), device, threads, precision: Precision::F32 })
    }

    /// The same with frozen networks in `precision`.
    ///
    /// # Errors
    /// [`DeviceError::NoBf16`] where the device cannot, or where it would be slower: `flex` converts each value back and forth.
    pub fn in_precision(self, precision: Precision) -> Result<Self, DeviceError> {
        if precision == Precision::Bf16 && (self.is_cpu() || !self.device.supports_dtype(FloatDType::BF16)) {
            return Err(DeviceError::NoBf16(self.name));
        }
        Ok(Self { precision, ..self })
    }

    /// The devices of all NVIDIA GPUs that the program sees, in the order of their numbers; at least one.
    ///
    /// # Errors
    /// As [`Compute::new`] of `cuda`.
    pub fn all_cuda() -> Result<Vec<Device>, DeviceError> {
        cudas("cuda")
    }

    /// Whether tensors live in the CPU's own memory and its threads compute.
    pub fn is_cpu(&self) -> bool {
        self.name.starts_with("flex") || self.name.starts_with("cpu")
    }
}

impl Default for Compute {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        Self { name: "flex".into(), device: Device::flex(), threads, precision: Precision::F32 }
    }
}

fn cuda(name: &str, index: Option<usize>) -> Result<Device, DeviceError> {
    // Burn panics on a number that is not there, and where there is no driver.
    let found = cudas(name)?;
    let absent = || DeviceError::Absent { name: name.into(), count: found.len() };
    found.get(index.unwrap_or(0)).cloned().ok_or_else(absent)
}

/// All CUDA devices; `name` is what was asked for.
#[cfg(feature = "cuda")]
fn cudas(name: &str) -> Result<Vec<Device>, DeviceError> {
    let count = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
    if count == 0 {
        Err(DeviceError::Absent { name: name.into(), count })
    } else {
        Ok((0..count).map(Device::cuda).collect())
    }
}
#[cfg(not(feature = "cuda"))]
fn cudas(name: &str) -> Result<Vec<Device>, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.into(), feature: "cuda" })
}

#[cfg(feature = "wgpu")]
fn wgpu(name: &str, index: Option<usize>) -> Result<Device, DeviceError> {
    use burn::tensor::{DeviceKind, DeviceType};
    // As with CUDA: Burn panics where there is none.
    let found = Device::enumerate(DeviceType::Wgpu);
    let device = match index {
        None if found.is_empty() => None,
        None => Some(Device::wgpu(DeviceKind::DefaultDevice)),
        Some(index) => found.get(index).cloned(),
    };
    device.ok_or_else(|| DeviceError::Absent { name: name.into(), count: found.len() })
}
#[cfg(not(feature = "wgpu"))]
fn wgpu(name: &str, _: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.into(), feature: "wgpu" })
}

#[cfg(feature = "tch")]
#[allow(deprecated, reason = "Burn 0.22 has no other way to libtorch")]
fn tch(name: &str, index: Option<usize>) -> Result<Device, DeviceError> {
    let Some(index) = index else { return Ok(Device::libtorch()) };
    // Of libtorch's devices Burn lists the GPUs alone.
    let found = Device::enumerate(burn::tensor::DeviceType::LibTorch);
    found.get(index).cloned().ok_or_else(|| DeviceError::Absent { name: name.into(), count: found.len() })
}
#[cfg(not(feature = "tch"))]
fn tch(name: &str, _: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.into(), feature: "tch" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(Compute::new("flex", Some(2)).is_ok_and(|c| c.is_cpu() && c.threads == 2));
        assert_eq!(Compute::new("tpu", None).map(|_| ()), Err(DeviceError::Unknown("tpu".into())));
        assert_eq!(Compute::new("cuda:x", None).map(|_| ()), Err(DeviceError::Index("cuda:x".into())));
        assert_eq!(Compute::new("flex", Some(0)).map(|c| c.threads), Ok(1));
    }

    #[test]
    fn the_cpu_is_not_slowed_down_by_bf16() {
        let refused = Compute::default().in_precision(Precision::Bf16).map(|_| ());
        assert_eq!(refused, Err(DeviceError::NoBf16("flex".into())));
        assert!(Compute::default().in_precision(Precision::F32).is_ok());
    }

    #[test]
    fn a_number_is_never_ignored() {
        assert!(Compute::new("flex:0", None).is_ok_and(|c| c.is_cpu()));
        let absent = |name: &str| Err(DeviceError::Absent { name: name.into(), count: 1 });
        assert_eq!(Compute::new("flex:1", None).map(|_| ()), absent("flex:1"));
        assert_eq!(Compute::new("cpu:7", None).map(|_| ()), absent("cpu:7"));
        for name in ["wgpu:-1", "tch:", "flex:a"] {
            assert_eq!(Compute::new(name, None).map(|_| ()), Err(DeviceError::Index(name.into())));
        }
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn what_is_not_built_in_is_named_with_its_number() {
        let expected = DeviceError::NotBuilt { name: "wgpu:1".into(), feature: "wgpu" };
        assert_eq!(Compute::new("wgpu:1", None).map(|_| ()), Err(expected));
    }
}
