//! What training an explainer computes: losses, optimizers and schedules, with their YAML sections.

mod loss;
mod objective;
pub mod optimizer;
mod schedule;
mod selection;

pub use loss::{area, cross_entropy, cross_entropy_gradient, smoothness};
pub use objective::{Objective, Reading, Regulariser, Terms};
pub use optimizer::{Adam, AdamW, Momentum, Optimizer, OptimizerError, Sgd};
pub use schedule::{Constant, Cosine, OneCycle, Rate, Schedule, StepDecay};
pub use selection::{Selection, matching, matching_from};
