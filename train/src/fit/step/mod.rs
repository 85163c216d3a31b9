//! One training step of each family of explainers: a batch to gradients of what is trained, and the figures to report.

mod masking_model;
mod share;
mod tame;

pub(super) use masking_model::masking_model;
pub use masking_model::{MaskingTask, PhaseName};
pub use tame::TameTask;
pub(super) use tame::tame;
