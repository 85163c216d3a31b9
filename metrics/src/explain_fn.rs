//! The explainer behind the heat maps, for metrics that need maps of other images, of other target classes, or of a
//! classifier with random weights.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::MetricError;

/// The classifier's weights while the explainer computes a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Trained weights.
    Trained,
    /// Weights at a stage of the cascading randomisation, from 0, below [`ExplainFn::stages`].
    Randomised(usize),
}

/// A function from images and target classes to heat maps.
pub trait ExplainFn: Debug {
    /// Maps `[n,1,h,w]` in 0..=1 of normalised images `[n,3,H,W]` for `classes`, one for each image. They must be computed
    /// as the maps under measurement were.
    ///
    /// # Errors
    /// [`MetricError::Explain`] where the explainer fails.
    fn explain(&self, images: Tensor<4>, classes: &[usize], model: ModelState) -> Result<Tensor<4>, MetricError>;

    /// Number of stages of the cascading randomisation; at the last one all weights are random. 0 without randomised
    /// classifiers.
    fn stages(&self) -> usize;
}
