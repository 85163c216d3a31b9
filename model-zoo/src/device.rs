//! Where tensors live and how many threads compute.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use burn::tensor::Device;

/// A device and the CPU threads that work beside it.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device by the name the user gave, such as `flex` or `cuda:0`.
    pub name: String,
    /// Its Burn device, without autodiff.
    pub device: Device,
    /// CPU threads, at least one.
    pub threads: usize,
}

/// A device that cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No kind of device has this name.
    #[error("unknown device {0:?}; devices are flex (CPU), cuda:N, wgpu and tch")]
    Unknown(String),
    /// The number behind the colon is none.
    #[error("device {0:?}: expected a number behind the colon, as in cuda:0")]
    Index(String),
    /// The program was built without it.
    #[error("device {name:?} is not built in; build with `--features {feature}`")]
    NotBuilt {
        /// What was asked for.
        name: String,
        /// The Cargo feature that has it.
        feature: &'static str,
    },
}

impl Compute {
    /// The device called `name` (`flex`, `cuda:0`, `wgpu`, `tch`) with `threads` CPU threads, by default all.
    ///
    /// # Errors
    /// [`DeviceError`] names the device and, if it is not compiled in, the feature to build with.
    pub fn new(name: &str, threads: Option<usize>) -> Result<Self, DeviceError> {
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => (kind, index.parse::<usize>().map_err(|_| DeviceError::Index(name.into()))?),
            None => (name, 0),
        };
        let device = match kind {
            "flex" | "cpu" => Device::flex(),
            "cuda" => cuda(name, index)?,
            "wgpu" => wgpu(name)?,
            "tch" => tch(name)?,
            _ => return Err(DeviceError::Unknown(name.into())),
        };
        let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get)).max(1);
        Ok(Self { name: name.into(), device, threads })
    }

    /// Whether tensors live in the CPU's own memory and its threads compute.
    pub fn is_cpu(&self) -> bool {
        self.name.starts_with("flex") || self.name.starts_with("cpu")
    }
}

impl Default for Compute {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        Self { name: "flex".into(), device: Device::flex(), threads }
    }
}

#[cfg(feature = "cuda")]
fn cuda(_: &str, index: usize) -> Result<Device, DeviceError> {
    Ok(Device::cuda(index))
}
#[cfg(not(feature = "cuda"))]
fn cuda(name: &str, _: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.into(), feature: "cuda" })
}

#[cfg(feature = "wgpu")]
fn wgpu(_: &str) -> Result<Device, DeviceError> {
    Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
}
#[cfg(not(feature = "wgpu"))]
fn wgpu(name: &str) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.into(), feature: "wgpu" })
}

#[cfg(feature = "tch")]
fn tch(_: &str) -> Result<Device, DeviceError> {
    Ok(Device::libtorch())
}
#[cfg(not(feature = "tch"))]
fn tch(name: &str) -> Result<Device, DeviceError> {
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
}
