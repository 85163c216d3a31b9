//! Integrated Gradients.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{black, integrated_gradients};

use crate::method::Built;
use crate::tensors::indices;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "integrated-gradients",
    title: "Integrated Gradients",
    family: Family::Gradient,
    paper: "Sundararajan et al., 2017",
    access: Access::Gradients,
    passes: "n forward, n backward",
    parameter: Some(("STEPS", 50)),
};

pub(crate) fn build(context: &MethodContext<'_>, steps: usize) -> Built {
    Ok(Box::new(IntegratedGradients { steps, preprocessing: context.preprocessing.clone() }))
}

/// Integrated Gradients (Sundararajan et al., 2017): (x - b) times the mean of dy/dx at b + k/n (x - b), k = 1..n, summed over
/// colour channels. The baseline b is a black image. See [`integrated_gradients`].
///
/// Maps `[B,1,H,W]` in 0..=1; attributions keep their sign before they are min-max normalised. n forward and n backward
/// passes an image.
#[derive(Clone, Debug)]
pub struct IntegratedGradients {
    /// n
    pub steps: usize,
    /// Preprocessing of the images, which says what black is after normalisation.
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
