//! Methods that mask or blur the image and compare the classifier's scores.

pub(crate) mod extremal;
mod mask_resize;
pub(crate) mod meaningful;
pub(crate) mod rise;
pub(crate) mod sidu;

pub use extremal::ExtremalPerturbation;
pub use meaningful::MeaningfulPerturbation;
pub use rise::{Masks, Rise};
pub use sidu::Sidu;
