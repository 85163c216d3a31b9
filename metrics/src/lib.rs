//! Metrics of heat maps, one file for each family. Every metric states its direction, unit, range, source and cost in
//! passes, in its file's header and in its [`MetricSpec`].
//!
//! A [`ImageBatch`] is a batch of images and what the classifier makes of them; a [`Attributions`] adds heat maps, one or more for
//! an image. A [`Metric`] gives each map of a case one value. What several metrics need (the clean pass, the upsampled
//! maps, the order of the pixels, blurred images, scores of masked images) is made once, when it is first asked for. Some
//! metrics have the explainer draw further maps: a [`ExplainFn`], which the case is given.
//!
//! Odd maps: a map with a value that is not finite has no value of any metric (`None`, which is counted and never
//! averaged). Of equal pixels, the one that comes first in reading order is the more important, so a constant map ranks
//! pixels in reading order. Where a metric is undefined for other reasons, its file says so.

mod attributions;
mod bee;
mod complexity;
mod crop;
mod curve;
mod error;
mod explain_fn;
mod fixations;
mod ground_truth;
mod image_batch;
mod infidelity;
mod information;
mod insertion;
mod masked;
mod memo;
mod perturbation;
mod pointing;
mod registry;
mod results;
mod road;
mod sanity;
mod sensitivity;
mod similarity;
mod soundness;
mod spec;
mod statistics;
#[cfg(test)]
mod testing;

pub use attributions::{Attributions, Frame};
pub use bee::BeeScores;
pub use error::MetricError;
pub use explain_fn::{ExplainFn, ModelState};
pub use ground_truth::{GroundTruth, PixelBox};
pub use image_batch::{ImageBatch, Prediction};
pub use masked::{Confidence, MaskedConfidence, Summary};
pub use memo::Memo;
pub use registry::{metric, names};
pub use results::{Difference, Figure, Results, ResultsError, Row};
pub use sanity::CASCADE;
pub use spec::{Better, Metric, MetricSpec, Needs};
pub use statistics::Estimate;
