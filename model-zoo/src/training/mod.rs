//! Training of a head, but for the loop: tasks (one step), losses, optimizers and schedules, with their YAML sections.

mod erased;
mod gradients;
mod loss;
mod metrics;
mod objective;
pub mod optimizer;
mod schedule;
mod selection;
mod share;
mod task;

pub use gradients::add_gradients;
pub use loss::{area, cross_entropy, cross_entropy_gradient, smoothness};
pub use metrics::{MetricNames, StepMetrics, StepOutput};
pub use objective::{LossTerms, LossValues, Objective, Regulariser};
pub use optimizer::{Adam, AdamW, Momentum, Optimizer, OptimizerError, Sgd};
pub use schedule::{Constant, Cosine, OneCycle, Rate, Schedule, StepDecay};
pub use selection::{Selection, matching, matching_from};
pub use share::LocalBatch;
pub use task::{AllGather, Length, PhaseSpec, RunSettings, StepBatch, StepContext, TrainingTask};
