//! Iterated Integrated Attributions (Barkan et al., ICCV 2023).

use burn::tensor::Tensor;

use super::layer::Layer;
use super::tensors::{from_values, parts};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{black, heat_maps};

/// The double integral IIA2, over the image and a layer (equation 9 with b_0 = b_L = 1, for convolutional networks):
///
/// sum over channels of int_0^1 (u - r) * int_0^1 v * dy/dv da_L da_0,
///
/// v = r + a_L (u - r), with u the layer's feature maps of the image b + a_0 (x - b), b a black image, and r the least
/// value of each channel of u. Both integrals are sums over n points, a = k/n, k = 1..n. A transformer's patches are
/// taken as feature maps; its attention matrices, which the paper integrates there, are not.
///
/// n + n^2 forward and n^2 backward passes.
#[derive(Clone, Debug)]
pub struct Iia {
    /// The layer of the inner integral.
    pub layer: Layer,
    /// n; the paper's is 10.
    pub steps: usize,
    /// How images were normalised, to know what black is.
    pub preprocessing: Preprocessing,
    /// Feature maps in memory at a time.
    pub per_call: usize,
}

impl AttributionMethod for Iia {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [_, _, height, width] = images.dims();
        let device = images.device();
        let steps = self.steps.max(1);
        let way = images.clone() - black(&self.preprocessing, 1, &device);
        let mut sum: Option<Tensor<4>> = None;
        for outer in 1..=steps {
            // b + a (x - b) = x - (1 - a) (x - b)
            let rest = 1.0 - outer as f32 / steps as f32;
            let seen = self.layer.look(backbone, &(images.clone() - way.clone() * rest))?;
            let each = classes.iter().enumerate().map(|(image, class)| {
                let one = seen.one(image);
                let [_, channels, rows, columns] = one.map.dims();
                let least = one.map.clone().reshape([1, channels, rows * columns]).min_dim(2);
                let least = least.reshape([1, channels, 1, 1]);
                let above = one.map.clone() - least.clone();
                let inner = parts(steps, self.per_call).map(|part| {
                    let shares = part.clone().map(|k| (k + 1) as f32 / steps as f32).collect();
                    let shares = from_values(shares, [part.len(), 1, 1, 1], &device);
                    let points = least.clone() + above.clone() * shares;
                    let gradient = self.layer.gradient_at(backbone, &one, points.clone(), *class);
                    (points * gradient).sum_dim(0)
                });
                let inner = inner.reduce(|sum, part| sum + part).unwrap_or_else(|| above.zeros_like());
                (above * inner).sum_dim(1)
            });
            let each = Tensor::cat(each.collect(), 0);
            sum = Some(match sum {
                Some(sum) => sum + each,
                None => each,
            });
        }
        // 1/n^2 is a factor.
        let sum = sum.unwrap_or_else(|| Tensor::zeros([images.dims()[0], 1, 1, 1], &device));
        Ok(heat_maps(sum, [height, width]))
    }
}
