//! Any classifier given as TorchScript, run by LibTorch: the second engine behind [`Backbone`]. Cargo feature `tch`.
//!
//! The file's `forward` takes normalised images `[B,3,H,W]` and returns logits `[B,K]` alone, or with taps:
//! `(logits, {name: tensor})` or `(logits, [tensor, ...])`, a tap being a map `[B,C,h,h]` or tokens `[B,N,C]`. What
//! `model-zoo/scripts/export_torchscript.py` writes says besides how the images are prepared (`explainer_record`), and
//! classifies with another feature in the place of a tap (`replaced`). Everything else is found out by a probe.
//!
//! A TorchScript is a program: load only what you would run.

mod error;
mod shape;

#[cfg(feature = "tch")]
mod crossing;
#[cfg(feature = "tch")]
mod engine;
#[cfg(feature = "tch")]
mod output;
#[cfg(feature = "tch")]
mod packed;
#[cfg(feature = "tch")]
mod record;
#[cfg(all(test, feature = "tch"))]
mod tests;

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "tch")]
pub use engine::TorchScript;
pub use error::TorchScriptError;

use super::{Backbone, BackboneError};
use crate::device::Compute;
use crate::image::Preprocessing;

/// What such a backbone is called in configurations and artifacts.
pub const NAME: &str = "torchscript";

/// Loads a file; `preprocessing` goes before what it says itself.
#[cfg(feature = "tch")]
pub(super) fn load(
    path: &Path,
    sha256: String,
    preprocessing: Option<&Preprocessing>,
    compute: &Compute,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    Ok(Arc::new(TorchScript::load(path, sha256, preprocessing, compute)?))
}

/// There is no LibTorch to load it with.
#[cfg(not(feature = "tch"))]
pub(super) fn load(
    _: &Path,
    _: String,
    _: Option<&Preprocessing>,
    _: &Compute,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    Err(TorchScriptError::NotBuilt.into())
}
