//! Frozen backbones, learned explainers and their checkpoints: everything a *user of* an explainer needs.
//!
//! An image classifier is loaded as a [`backbone`], its feature maps are tapped, and a learned
//! [`explainer`] turns them into one heat map a class in a single forward pass.

pub mod adapter;
pub mod artifact;
pub mod auxiliary;
pub mod backbone;
pub mod bilinear;
pub mod classes;
pub mod device;
pub mod explain;
pub mod explainer;
pub mod feature_extractor;
pub mod files;
pub mod head;
pub mod hub;
pub mod image;
pub mod maps;
pub mod masking;
pub mod path_integral;
pub mod random;
pub mod range;
mod retry;
pub mod spelling;
mod stand_in;
pub mod sync_batch_norm;
#[doc(hidden)]
pub mod tagged;
pub mod training;
pub mod weights;
pub mod zoo;

pub use explain::{Explain, Explainer};
