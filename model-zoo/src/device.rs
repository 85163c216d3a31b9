//! Devices, precision and CPU threads.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use burn::tensor::{Device, FloatDType};
use serde::Deserialize;

/// The number type in which frozen networks compute. Explainers, losses and all that enters or leaves a network are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Precision {
    /// 32 bits.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// bfloat16: 16 bits, 8 of them precision.
    #[serde(rename = "bfloat16")]
    Bf16,
}

/// A device, its precision, and the CPU threads.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The name that the user gave, such as `flex` or `cuda:0`.
    pub name: String,
    /// Its Burn device, without autodiff.
    pub device: Device,
    /// Number of CPU threads, at least 1.
    pub threads: usize,
    /// Precision of frozen networks.
    pub precision: Precision,
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No device has this name.
    #[error("unknown device {0:?}; devices are flex (CPU), cuda:N, wgpu, wgpu:N, tch and tch:N")]
    Unknown(String),
    /// The part behind the colon is not a number.
    #[error("device {0:?}: expected a number behind the colon, as in cuda:0")]
    Index(String),
    /// The machine has no device with this number.
    #[error("there is no device {name:?}: found {count} of this kind, numbered from 0")]
    Absent {
        /// The name given.
        name: String,
        /// Number of devices of the kind.
        count: usize,
    },
    /// The program was built without support for it.
    #[error("device {name:?} is not built in; build with `--features {feature}`")]
    NotBuilt {
        /// The name given.
        name: String,
        /// The Cargo feature to build with.
        feature: &'static str,
    },
    /// It does not compute in bf16.
    #[error(
        "device {0:?} does not compute in bf16; take `precision: f32`, a device that does (cuda), or export the classifier for \
         LibTorch with `model-zoo/scripts/export_torchscript.py --bfloat16`"
    )]
    NoBf16(String),
}

impl Compute {
    /// The device `name` with `threads` CPU threads, by default all.
    ///
    /// | name | device |
    /// |---|---|
    /// | `flex`, `cpu` | the CPU |
    /// | `cuda`, `cuda:N` | the first, or the Nth, NVIDIA GPU |
    /// | `wgpu`, `wgpu:N` | wgpu's default adapter, or the Nth |
    /// | `tch`, `tch:N` | libtorch on the CPU, or on the Nth NVIDIA GPU |
    ///
    /// # Errors
    /// [`DeviceError`] names the device and, if it is not built in, the feature to build with.
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

    /// The same device with frozen networks in `precision`.
    ///
    /// # Errors
    /// [`DeviceError::NoBf16`] for a device without bf16, and for `flex`, where it is slower: every operation converts.
    pub fn in_precision(self, precision: Precision) -> Result<Self, DeviceError> {
        if precision == Precision::Bf16 && (self.is_cpu() || !self.device.supports_dtype(FloatDType::BF16)) {
            return Err(DeviceError::NoBf16(self.name));
        }
        Ok(Self { precision, ..self })
    }

    /// All visible NVIDIA GPUs, in the order of their numbers; at least one.
    ///
    /// # Errors
    /// As [`Compute::new`] of `cuda`.
    pub fn all_cuda() -> Result<Vec<Device>, DeviceError> {
        cudas("cuda")
    }

    /// Whether the device is the CPU by Burn's own backend.
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
    // Burn panics for a number that does not exist, and without a driver.
    let found = cudas(name)?;
    let absent = || DeviceError::Absent { name: name.into(), count: found.len() };
    found.get(index.unwrap_or(0)).cloned().ok_or_else(absent)
}

/// All CUDA devices; `name` is named in errors.
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
    // As with CUDA: Burn panics for an adapter that does not exist.
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
    // Of libtorch's devices Burn lists only the GPUs.
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
    fn bf16_is_refused_on_the_cpu() {
        let refused = Compute::default().in_precision(Precision::Bf16).map(|_| ());
        assert_eq!(refused, Err(DeviceError::NoBf16("flex".into())));
        assert!(Compute::default().in_precision(Precision::F32).is_ok());
    }

    #[test]
    fn device_numbers_are_checked() {
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
    fn a_device_that_is_not_built_in_is_named_with_its_number() {
        let expected = DeviceError::NotBuilt { name: "wgpu:1".into(), feature: "wgpu" };
        assert_eq!(Compute::new("wgpu:1", None).map(|_| ()), Err(expected));
    }
}
