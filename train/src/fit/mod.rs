//! Training of an explainer: `training_loop` is the loop, `run` leads from a configuration through its phases to an
//! artifact, `step` has the training step of each family.

mod batches;
pub mod bee;
mod cache;
pub mod checkpoint;
mod classifier;
mod clip;
mod context;
mod error;
mod gradients;
mod import;
mod learner;
mod log;
mod metrics;
mod output;
mod pending;
mod phase;
mod progress;
mod run;
mod setup;
pub mod step;
mod training_loop;
mod validation;

pub use cache::{CachedPass, CleanCache};
pub use clip::{GradientError, clip_gradients};
pub use context::Context;
pub use error::FitError;
pub use import::{Imported, import};
pub use metrics::{Report, StepMetrics, StepOutput};
pub use output::ResumeFrom;
pub use run::{Finished, run, run_in_group};
