//! SmoothGrad.

use burn::tensor::Tensor;
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

use crate::method::Built;
use crate::tensors::{chunks, indices, normal};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "smooth-grad",
    title: "SmoothGrad",
    family: Family::Gradient,
    paper: "Smilkov et al., 2017",
    access: Access::Gradients,
    passes: "n forward, n backward",
    parameter: Some(("SAMPLES", 50)),
};

pub(crate) fn build(context: &MethodContext<'_>, samples: usize) -> Built {
    Ok(Box::new(SmoothGrad { samples, noise: 0.15, seed: context.seed, batch_size: context.batch_size }))
}

/// SmoothGrad (Smilkov et al., 2017): |1/n sum_i dy/dx (x + e_i)|, summed over colour channels, with noise e_i from
/// N(0, sigma^2). sigma is a share of the range of the image's values. All images of a batch see the same noise, each at
/// its own scale.
///
/// Maps `[B,1,H,W]` in 0..=1. n forward and n backward passes an image.
#[derive(Clone, Debug)]
pub struct SmoothGrad {
    /// n; the paper's is 50.
    pub samples: usize,
    /// sigma as a share of the image's range; the paper's is 0.15.
    pub noise: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// Noisy images in one call of the backbone.
    pub batch_size: usize,
}

impl AttributionMethod for SmoothGrad {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [batch, channels, height, width] = images.dims();
        let device = images.device();
        let flat = images.clone().reshape([batch, channels * height * width]);
        let range = (flat.clone().max_dim(1) - flat.min_dim(1)).reshape([batch, 1, 1, 1]);
        let scale = range * self.noise as f32;
        let mut sum = images.zeros_like();
        // Every sample of noise is added to all images.
        let block = (self.batch_size / batch.max(1)).max(1);
        for chunk in chunks(self.samples, block) {
            let noise = chunk
                .clone()
                .map(|number| normal([1, channels, height, width], self.seed, "smooth grad", number as u64, &device));
            let noisy = noise.map(|noise| images.clone() + scale.clone() * noise);
            let noisy = Tensor::cat(noisy.collect(), 0);
            let class = indices(classes, &device).repeat_dim(0, chunk.len());
            if let Tap::Map(gradient) = backbone.vjp(noisy, &one_hot(class)).gradient {
                let gradient = gradient.reshape([chunk.len(), batch, channels, height, width]).sum_dim(0);
                sum = sum + gradient.reshape([batch, channels, height, width]);
            }
        }
        // The sum instead of the mean: normalisation removes the factor.
        Ok(min_max(sum.abs().sum_dim(1)))
    }
}
