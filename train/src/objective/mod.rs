//! What a learned explainer is trained for: which maps the loss sees, how a map hides part of an image, and the loss.

mod loss;
pub mod masking_model;
mod selection;

pub use loss::{Reading, Regulariser, Terms, area, cross_entropy, cross_entropy_gradient, smoothness};
pub use selection::{matching, matching_from};

pub use crate::config::{Objective, Selection};
