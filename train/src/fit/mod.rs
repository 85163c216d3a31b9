//! Fitting an explainer: the training step, the loop around it, optimizers, schedules, checkpoints.

pub mod batches;
pub mod checkpoint;
pub mod clip;
pub mod context;
mod error;
pub mod optimizer;
pub mod progress;
mod run;
pub mod schedule;
mod schedule_step;
pub mod strategy;
pub mod trainee;

pub use error::FitError;
pub use run::{Finished, ResumeFrom, run};
