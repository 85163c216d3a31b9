//! Training of an explainer: `training_loop` is the loop, `run` leads from a configuration through its phases to an
//! artifact. The training step of each explainer is its own, in `explainer_zoo`.

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
mod output;
mod pending;
mod phase;
mod progress;
mod run;
mod setup;
mod training_loop;
mod validation;

pub use cache::{CachedPass, CleanCache};
pub use clip::{GradientError, clip_gradients};
pub use context::Context;
pub use error::FitError;
pub use import::{Imported, import};
pub use output::ResumeFrom;
pub use run::{Finished, run, run_in_group};
