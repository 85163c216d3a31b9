//! Fitting an explainer: the training step, the loop around it, optimizers, schedules, checkpoints; import of heads.

pub mod batches;
pub mod bee;
mod cache;
pub mod checkpoint;
mod classifier;
pub mod clip;
pub mod context;
mod course;
mod error;
mod first;
pub mod gradients;
mod identity;
mod import;
mod log;
mod phase;
pub mod progress;
mod run;
mod schedule_step;
mod setup;
pub mod step;
pub mod strategy;
pub mod trainee;

pub use error::FitError;
pub use import::{Imported, import};
pub use run::{Finished, ResumeFrom, run, run_together};
