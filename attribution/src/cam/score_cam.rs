//! Score-CAM.

use burn::tensor::{Tensor, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

use crate::layer::{Layer, activation_map};
use crate::method::Built;
use crate::tensors::{chunks, class_scores};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "score-cam",
    title: "Score-CAM",
    family: Family::Cam,
    paper: "Wang et al., 2020",
    access: Access::Taps,
    passes: "1 + C forward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(ScoreCam { layer: context.layer(&INFO)?, batch_size: context.batch_size }))
}

/// Score-CAM (Wang et al., 2020, equations 6 to 8, algorithm 1): ReLU(sum_k w_k A_k) with w = softmax over k of y(x * H_k).
/// H_k is A_k, resized to the image (bilinear) and min-max normalised.
///
/// Zero in a normalised image is the mean colour of the data. The algorithm also subtracts the score of a baseline image
/// from every y, which the softmax removes.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. 1 + C forward passes an image, C channels.
#[derive(Clone, Debug)]
pub struct ScoreCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
    /// Masked images in one call of the backbone.
    pub batch_size: usize,
}

impl AttributionMethod for ScoreCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let [batch, channels, ..] = output.map.dims();
        let [_, _, height, width] = images.dims();
        let mut weights = Vec::with_capacity(batch);
        for (image, class) in classes.iter().enumerate() {
            let one = output.image(image);
            let scores = chunks(channels, self.batch_size).map(|chunk| {
                let maps = one.map.clone().swap_dims(0, 1).narrow(0, chunk.start, chunk.len());
                let masks = min_max(resize(maps, [height, width]));
                class_scores(backbone.forward(masks * one.images.clone(), &[]).logits, *class)
            });
            weights.push(softmax(Tensor::cat(scores.collect(), 0), 0).unsqueeze::<2>());
        }
        Ok(activation_map(output.map, Tensor::cat(weights, 0)))
    }
}
