#![doc = include_str!("../README.md")]

pub mod agreement;
mod attributions;
mod bee;
mod cache;
mod complexity;
mod curves;
mod error;
mod explain_fn;
mod faithfulness;
mod ground_truth;
mod image_batch;
mod localisation;
mod metric;
mod randomisation;
mod registry;
mod results;
mod robustness;
mod salient_region;
mod statistics;
#[cfg(test)]
mod testing;

pub use attributions::{MetricInput, TopPixels};
pub use bee::BeeMetrics;
pub use cache::Cache;
pub use error::MetricError;
pub use explain_fn::{ExplainFn, ModelState};
pub use faithfulness::{Confidence, MaskedConfidence, Summary};
pub use ground_truth::{GroundTruth, PixelBox};
pub use image_batch::{ImageBatch, Prediction};
pub use metric::{Direction, Family, Metric, MetricSpec, Requirement};
pub use randomisation::CASCADE;
pub use registry::{metric, names, names_by_family};
pub use results::{Difference, MetricResult, Results, ResultsError, Row};
pub use statistics::Estimate;
