//! Any classifier as a TorchScript, run by LibTorch: the second engine behind [`Backbone`]. Cargo feature `tch`.
//!
//! The file's `forward` takes normalised images `[B,3,H,W]` and returns logits `[B,K]` alone, or with taps:
//! `(logits, {name: tensor})` or `(logits, [tensor, ...])`; a tap is a map `[B,C,h,h]` or tokens `[B,N,C]`. Files that
//! `model-zoo/scripts/export_torchscript.py` writes also have metadata with the preprocessing (`explainer_record`), and can
//! replace the feature map of a tap (`replaced`). A probe finds out the rest.
//!
//! A TorchScript is a program: load only what you would run.

mod error;
mod shape;

#[cfg(feature = "tch")]
mod convert;
#[cfg(feature = "tch")]
mod engine;
#[cfg(feature = "tch")]
mod metadata;
#[cfg(feature = "tch")]
mod module;
#[cfg(feature = "tch")]
mod output;
#[cfg(feature = "tch")]
mod packed;
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

/// The name of such a backbone in configurations and artifacts.
pub const NAME: &str = "torchscript";

/// Loads a file; `preprocessing` overrides that of its metadata.
#[cfg(feature = "tch")]
pub(super) fn load(
    path: &Path,
    sha256: String,
    preprocessing: Option<&Preprocessing>,
    compute: &Compute,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    Ok(Arc::new(TorchScript::load(path, sha256, preprocessing, compute)?))
}

/// The program is built without LibTorch.
#[cfg(not(feature = "tch"))]
pub(super) fn load(
    _: &Path,
    _: String,
    _: Option<&Preprocessing>,
    _: &Compute,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    Err(TorchScriptError::NotBuilt.into())
}
