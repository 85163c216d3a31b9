//! SIDU (Muddamsetty et al., 2022): similarity difference and uniqueness.

use burn::tensor::{Tensor, activation::softmax};

use super::layer::Layer;
use super::tensors::parts;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

/// sum_k SD_k U_k M_k, M_k the mask of channel k: 1 where A_k, stretched to 0..1, is above 1/2, else 0, resized to the image
/// (bilinear).
///
/// With the probabilities of all classes P of the image and P_k of the image times M_k, SD_k = exp(-||P - P_k|| / (2
/// sigma^2)) is how alike they are (equation 3), sigma = 0.25, and U_k = sum_j ||P_k - P_j|| how unlike those of other
/// masks (equation 4). The class to explain plays no role of its own.
///
/// 1 + C forward passes, C the layer's channels.
#[derive(Clone, Debug)]
pub struct Sidu {
    /// Whose feature maps become masks.
    pub layer: Layer,
    /// Masked images in memory at a time.
    pub per_call: usize,
}

/// The paper's.
const SIGMA: f32 = 0.25;

impl AttributionMethod for Sidu {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let [_, channels, rows, columns] = seen.map.dims();
        let [_, _, height, width] = images.dims();
        let mut maps = Vec::with_capacity(classes.len());
        for image in 0..classes.len() {
            let one = seen.one(image);
            let binary = min_max(one.map.clone().swap_dims(0, 1)).greater_elem(0.5).float();
            let scores = parts(channels, self.per_call).map(|part| {
                let masks = resize(binary.clone().narrow(0, part.start, part.len()), [height, width]);
                softmax(backbone.forward(masks * one.image().clone(), &[]).logits, 1)
            });
            let scores = Tensor::cat(scores.collect(), 0);
            let whole = softmax(one.logits.clone(), 1);
            let difference = (scores.clone() - whole).powi_scalar(2).sum_dim(1).sqrt();
            let similar = (difference / (-2.0 * SIGMA * SIGMA)).exp();
            let weights = similar * distances(scores).sum_dim(1);
            // The sum of resized masks is the resized sum.
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
    // Rounding may leave a little less than zero.
    (squares.clone() + squares.transpose() - products * 2.0).clamp_min(0.0).sqrt()
}
