//! Integrated Gradients (Sundararajan et al., 2017).

use burn::tensor::Tensor;

use super::tensors::indices;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{black, integrated_gradients};

/// (x - b) times the mean of dy/dx at b + k/n (x - b), k = 1..n, summed over colours, b a black image; see
/// [`integrated_gradients`].
///
/// n forward and n backward passes.
#[derive(Clone, Debug)]
pub struct IntegratedGradients {
    /// n
    pub steps: usize,
    /// How images were normalised, to know what black is.
    pub preprocessing: Preprocessing,
}

impl AttributionMethod for IntegratedGradients {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [_, channels, height, width] = images.dims();
        let device = images.device();
        let baseline = black(&self.preprocessing, 1, &device).expand([1, channels, height, width]);
        Ok(integrated_gradients(backbone, images, &indices(classes, &device), &baseline, self.steps))
    }
}
