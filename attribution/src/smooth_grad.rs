//! SmoothGrad (Smilkov et al., 2017).

use burn::tensor::Tensor;

use super::tensors::{indices, normal, parts};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

/// |1/n sum_i dy/dx (x + e_i)|, e_i from N(0, sigma^2), summed over colours; sigma is a share of what lies between the
/// image's least and largest value. All images see the same noise, each at its own scale.
///
/// n forward and n backward passes.
#[derive(Clone, Debug)]
pub struct SmoothGrad {
    /// n; the paper's is 50.
    pub samples: usize,
    /// sigma as a share of the image's range; the paper's is 0.15.
    pub noise: f64,
    /// Of the random numbers.
    pub seed: u64,
    /// Noisy images in memory at a time.
    pub per_call: usize,
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
        // Each block of noise goes to all images in turn.
        let block = (self.per_call / batch.max(1)).max(1);
        for part in parts(self.samples, block) {
            let noise = part
                .clone()
                .map(|number| normal([1, channels, height, width], self.seed, "smooth grad", number as u64, &device));
            let noisy = noise.map(|noise| images.clone() + scale.clone() * noise);
            let noisy = Tensor::cat(noisy.collect(), 0);
            let class = indices(classes, &device).repeat_dim(0, part.len());
            if let Tap::Map(gradient) = backbone.vjp(noisy, &one_hot(class)).gradient {
                let gradient = gradient.reshape([part.len(), batch, channels, height, width]).sum_dim(0);
                sum = sum + gradient.reshape([batch, channels, height, width]);
            }
        }
        // The mean for the sum: a factor.
        Ok(min_max(sum.abs().sum_dim(1)))
    }
}
