//! Iterated Integrated Attributions.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{black, heat_maps};

use crate::layer::Layer;
use crate::method::Built;
use crate::tensors::{chunks, from_values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "iia",
    title: "IIA",
    family: Family::Gradient,
    paper: "Barkan et al., 2023",
    access: Access::ReplaceableTaps,
    passes: "n + n^2 forward, n^2 backward",
    parameter: Some(("STEPS", 10)),
};

pub(crate) fn build(context: &MethodContext<'_>, steps: usize) -> Built {
    Ok(Box::new(Iia {
        layer: context.layer(&INFO)?,
        steps,
        preprocessing: context.preprocessing.clone(),
        batch_size: context.batch_size,
    }))
}

/// Iterated Integrated Attributions (Barkan et al., ICCV 2023): the double integral IIA2 over the image and a layer (equation
/// 9 with b_0 = b_L = 1, for convolutional networks),
///
/// sum over channels of int_0^1 (u - r) * int_0^1 v * dy/dv da_L da_0,
///
/// with v = r + a_L (u - r), u the layer's feature maps of the image b + a_0 (x - b), b a black image, and r the minimum of
/// each channel of u. Both integrals are sums over n points, a = k/n, k = 1..n. Of a transformer the patch tokens are taken as
/// feature maps, not the attention matrices that the paper integrates there.
///
/// Maps `[B,1,H,W]` in 0..=1. n + n^2 forward and n^2 backward passes an image.
#[derive(Clone, Debug)]
pub struct Iia {
    /// The layer of the inner integral.
    pub layer: Layer,
    /// n; the paper's is 10.
    pub steps: usize,
    /// Preprocessing of the images, which says what black is after normalisation.
    pub preprocessing: Preprocessing,
    /// Feature maps in one call of the backbone.
    pub batch_size: usize,
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
        let path = images.clone() - black(&self.preprocessing, 1, &device);
        let mut sum: Option<Tensor<4>> = None;
        for outer in 1..=steps {
            // b + a (x - b) = x - (1 - a) (x - b)
            let rest = 1.0 - outer as f32 / steps as f32;
            let output = self.layer.forward(backbone, &(images.clone() - path.clone() * rest))?;
            let each = classes.iter().enumerate().map(|(image, class)| {
                let one = output.image(image);
                let [_, channels, rows, columns] = one.map.dims();
                let minimum = one.map.clone().reshape([1, channels, rows * columns]).min_dim(2);
                let minimum = minimum.reshape([1, channels, 1, 1]);
                let above = one.map.clone() - minimum.clone();
                let inner = chunks(steps, self.batch_size).map(|chunk| {
                    let shares = chunk.clone().map(|k| (k + 1) as f32 / steps as f32).collect();
                    let shares = from_values(shares, [chunk.len(), 1, 1, 1], &device);
                    let points = minimum.clone() + above.clone() * shares;
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
        // Normalisation removes the factor 1/n^2.
        let sum = sum.unwrap_or_else(|| Tensor::zeros([images.dims()[0], 1, 1, 1], &device));
        Ok(heat_maps(sum, [height, width]))
    }
}
