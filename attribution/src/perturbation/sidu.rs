//! SIDU.

use burn::tensor::{Tensor, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

use crate::layer::Layer;
use crate::method::Built;
use crate::tensors::chunks;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "sidu",
    title: "SIDU",
    family: Family::Perturbation,
    paper: "Muddamsetty et al., 2022",
    access: Access::Taps,
    passes: "1 + C forward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(Sidu { layer: context.layer(&INFO)?, batch_size: context.batch_size }))
}

/// SIDU, similarity difference and uniqueness (Muddamsetty et al., 2022): sum_k SD_k U_k M_k. M_k is the mask of channel k: 1
/// where the min-max normalised A_k is above 1/2, else 0, resized to the image (bilinear).
///
/// With the probabilities P of all classes for the image and P_k for the masked image x * M_k, the similarity is
/// SD_k = exp(-||P - P_k|| / (2 sigma^2)), sigma = 0.25 (equation 3), and the uniqueness U_k = sum_j ||P_k - P_j|| (equation
/// 4). The target class is not used.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. 1 + C forward passes an image, C channels.
#[derive(Clone, Debug)]
pub struct Sidu {
    /// The layer whose feature maps become masks.
    pub layer: Layer,
    /// Masked images in one call of the backbone.
    pub batch_size: usize,
}

/// sigma of the paper.
const SIGMA: f32 = 0.25;

impl AttributionMethod for Sidu {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let [_, channels, rows, columns] = output.map.dims();
        let [_, _, height, width] = images.dims();
        let mut maps = Vec::with_capacity(classes.len());
        for image in 0..classes.len() {
            let one = output.image(image);
            let binary = min_max(one.map.clone().swap_dims(0, 1)).greater_elem(0.5).float();
            let scores = chunks(channels, self.batch_size).map(|chunk| {
                let masks = resize(binary.clone().narrow(0, chunk.start, chunk.len()), [height, width]);
                softmax(backbone.forward(masks * one.images.clone(), &[]).logits, 1)
            });
            let scores = Tensor::cat(scores.collect(), 0);
            let whole = softmax(one.logits.clone(), 1);
            let difference = (scores.clone() - whole).powi_scalar(2).sum_dim(1).sqrt();
            let similarity = (difference / (-2.0 * SIGMA * SIGMA)).exp();
            let weights = similarity * distances(scores).sum_dim(1);
            // Weighted at the layer's resolution: a sum of resized masks is the resized sum.
            let map = weights.transpose().matmul(binary.reshape([channels, rows * columns]));
            maps.push(map.reshape([1, 1, rows, columns]));
        }
        Ok(min_max(Tensor::cat(maps, 0)))
    }
}

/// Euclidean distances between the rows of `[n,K]`: `[n,n]`.
fn distances(rows: Tensor<2>) -> Tensor<2> {
    let squares = rows.clone().powi_scalar(2).sum_dim(1);
    let products = rows.clone().matmul(rows.transpose());
    // Rounding may give a negative square.
    (squares.clone() + squares.transpose() - products * 2.0).clamp_min(0.0).sqrt()
}
