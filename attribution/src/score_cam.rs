//! Score-CAM (Wang et al., 2020).

use burn::tensor::{Tensor, activation::softmax};

use super::layer::{Layer, activation_map};
use super::tensors::{column, parts};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

/// ReLU(sum_k w_k A_k), w = softmax over k of y(x * H_k), H_k being A_k resized to the image (bilinear) and stretched to
/// 0..1 (equations 6 to 8, algorithm 1). A hole in a normalised image is the data's mean colour. The algorithm subtracts
/// the score of a baseline image from all y, which a softmax does not see.
///
/// 1 + C forward passes, C the layer's channels.
#[derive(Clone, Debug)]
pub struct ScoreCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
    /// Masked images in memory at a time.
    pub per_call: usize,
}

impl AttributionMethod for ScoreCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let [batch, channels, ..] = seen.map.dims();
        let [_, _, height, width] = images.dims();
        let mut weights = Vec::with_capacity(batch);
        for (image, class) in classes.iter().enumerate() {
            let one = seen.one(image);
            let scores = parts(channels, self.per_call).map(|part| {
                let maps = one.map.clone().swap_dims(0, 1).narrow(0, part.start, part.len());
                let masks = min_max(resize(maps, [height, width]));
                column(backbone.forward(masks * one.image().clone(), &[]).logits, *class)
            });
            weights.push(softmax(Tensor::cat(scores.collect(), 0), 0).unsqueeze::<2>());
        }
        Ok(activation_map(seen.map, Tensor::cat(weights, 0)))
    }
}
