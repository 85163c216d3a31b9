//! The explainer behind maps, for metrics that ask it again: for other images, other classes, or while the classifier
//! that it explains is random in part.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::MetricError;

/// What an explainer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// The classifier as it is.
    Trained,
    /// The classifier at this stage of the cascading randomisation, from 0, below [`ExplainFn::stages`].
    Randomised(usize),
}

/// An explainer that can be asked again.
pub trait ExplainFn: Debug {
    /// Maps `[n,1,h,w]` in 0..=1 of normalised images `[n,3,H,W]`, each for the class in its place; made as the maps
    /// under measurement are.
    ///
    /// # Errors
    /// [`MetricError::ExplainFn`] where it cannot explain what it is asked for.
    fn explain(&self, images: Tensor<4>, classes: &[usize], sight: ModelState) -> Result<Tensor<4>, MetricError>;

    /// Stages of the cascading randomisation, the last of which leaves nothing of the classifier; 0 if it was not
    /// prepared.
    fn stages(&self) -> usize;
}
