//! Methods for vision transformers: maps of the patches, from attention or tokens.

pub(crate) mod daam;
mod patches;
pub(crate) mod rollout;
pub(crate) mod transformer_attribution;
pub(crate) mod vit_cx;

pub use daam::Daam;
pub use patches::Patches;
pub use rollout::Rollout;
pub use transformer_attribution::TransformerAttribution;
pub use vit_cx::VitCx;
