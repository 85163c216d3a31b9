//! Metrics of heat maps: numbers that say how good the explanation of an image classifier is.
//!
//! | family | question | metrics |
//! |---|---|---|
//! | [`Family::Faithfulness`] | Does the map show what the classifier uses? | AD, IC, AG, insertion, deletion, ROAD, ... |
//! | [`Family::Localisation`] | Does the map lie on the object? | pointing game, energy pointing game, ... |
//! | [`Family::Robustness`] | Does the map stay when the image hardly changes? | max-sensitivity |
//! | [`Family::Randomisation`] | Does the map change when the classifier's weights are random? | sanity checks |
//! | [`Family::Complexity`] | Is the map concentrated on few pixels? | sparsity, entropy |
//! | [`Family::Agreement`] | Does the map agree with where people look? | NSS |
//!
//! Each metric is one file in its family's module. The file's header states the definition, unit, range, direction,
//! source and cost; [`MetricSpec`] states them for programs. [`names_by_family`] lists the metrics.
//!
//! ```
//! # use burn::tensor::{Device, Tensor};
//! # use explainer_metrics::{Attributions, ImageBatch, MetricError, metric};
//! # use explainer_zoo::backbone::Backbone;
//! # fn evaluate(backbone: &dyn Backbone, images: Tensor<4>, maps: Tensor<4>) -> Result<(), MetricError> {
//! // Images [B,3,H,W] as the backbone normalises them; the target is each image's predicted class.
//! let batch = ImageBatch::from_images(backbone, images)?;
//! let attributions = Attributions::new(&batch, maps)?; // heat maps [B,1,h,w] in 0..=1
//! for name in ["ad@50", "insertion", "sparsity"] {
//!     let values: Vec<Option<f64>> = metric(name)?.measure(&attributions)?; // one for each map
//!     println!("{name}: {values:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The classifier is any [`Backbone`](explainer_zoo::backbone::Backbone), also a closure from images to logits:
//! `examples/closure.rs`.
//!
//! # Undefined values
//! A value is `None` where the metric is undefined. [`Estimate`] counts those and leaves them out of the mean. Every
//! metric is undefined for a heat map with a value that is not finite (NaN or infinite), and where the classifier's
//! scores of an image that it needs are not finite. The metric's file says where else.
//!
//! # Ties
//! Of pixels with equal values, the one that comes first in reading order ranks first. A constant map therefore ranks the
//! pixels in reading order.
//!
//! # Cost
//! What several metrics need (the clean forward pass, upsampled maps, rankings, blurred images, scores of perturbed
//! images) is computed once for a batch and cached: measure all metrics with one [`Attributions`], and compare explainers
//! with one [`ImageBatch`].

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

pub use attributions::{Attributions, TopPixels};
pub use bee::BeeMetrics;
pub use cache::Cache;
pub use error::MetricError;
pub use explain_fn::{ExplainFn, ModelState};
pub use faithfulness::{Confidence, MaskedConfidence, Summary};
pub use ground_truth::{GroundTruth, PixelBox};
pub use image_batch::{ImageBatch, Prediction};
pub use metric::{Better, Family, Metric, MetricSpec, Needs};
pub use randomisation::CASCADE;
pub use registry::{metric, names, names_by_family};
pub use results::{Difference, MetricResult, Results, ResultsError, Row};
pub use statistics::Estimate;
