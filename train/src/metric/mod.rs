//! Metrics of heat maps, one file for each family. Every metric states its direction, unit, range, source and cost in
//! passes, in its file's header and in its [`MetricSpec`].
//!
//! A [`Subject`] is a batch of images and what the classifier makes of them; a [`Case`] adds heat maps, one or more for
//! an image. A [`Metric`] gives each map of a case one value. What several metrics need (the clean pass, the upsampled
//! maps, the order of the pixels, blurred images, scores of masked images) is made once, when it is first asked for. Some
//! metrics have the explainer draw further maps: a [`Redraw`], which the case is given.
//!
//! Odd maps: a map with a value that is not finite has no value of any metric (`None`, which is counted and never
//! averaged). Of equal pixels, the one that comes first in reading order is the more important, so a constant map ranks
//! pixels in reading order. Where a metric is undefined for other reasons, its file says so.

mod bee;
mod case;
mod crop;
mod curve;
mod error;
mod fixations;
mod infidelity;
mod information;
mod insertion;
mod masked;
mod memo;
mod perturbation;
mod pointing;
mod redraw;
mod registry;
mod results;
mod road;
mod sanity;
mod sensitivity;
mod similarity;
mod soundness;
mod spec;
mod spread;
mod statistics;
mod subject;
#[cfg(test)]
mod testing;

pub use bee::BeeScores;
pub use case::{Case, Frame};
pub use error::MetricError;
pub use masked::{Confidence, MaskedConfidence, Summary};
pub use memo::Memo;
pub use redraw::{Redraw, Sight};
pub use registry::{metric, names};
pub use results::{Difference, Figure, Results, ResultsError, Row};
pub use sanity::CASCADE;
pub use spec::{Better, Metric, MetricSpec, Needs};
pub use statistics::Estimate;
pub use subject::{Look, Subject};
