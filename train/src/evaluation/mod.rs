//! Explainers by metrics on a set of images: what `evaluate` and `compare` measure with.
//!
//! An [`Evaluator`] goes through images batch by batch. For each batch it explains the predicted class of every image with
//! each [`Candidate`], measures the maps with every metric, and passes a [`BatchResult`] of each candidate on.
//! [`evaluate`] does so for one explainer and collects a [`Report`].

mod curve;
mod evaluator;
mod explain_fn;
mod reference;
mod report;
mod run;
mod text;

pub use curve::Curve;
pub use evaluator::{BatchResult, Candidate, EvaluationError, Evaluator, ImageResult, needs_randomised};
pub use explain_fn::ExplainerFn;
pub use reference::Reference;
pub use report::{MeanPasses, MeasuredImage, ReferenceReport, Report};
pub use run::{Evaluation, evaluate};
