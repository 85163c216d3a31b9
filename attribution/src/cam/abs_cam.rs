//! Abs-CAM.

use burn::tensor::{Tensor, activation::relu};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

use crate::layer::{Layer, spatial_mean};
use crate::method::Built;
use crate::tensors::indices;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "abs-cam",
    title: "Abs-CAM",
    family: Family::Cam,
    paper: "Zeng et al., 2023",
    access: Access::ReplaceableTaps,
    passes: "3 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(AbsCam { layer: context.layer(&INFO)? }))
}

/// Abs-CAM (Zeng et al., 2023), in two phases. The initial map is M = min-max of sum_k w_k A_k, w_k the mean of |dy/dA_k| over
/// positions, resized to the image (bilinear). The final map is ReLU(y(x * M) M), with the class's logit of the masked
/// image.
///
/// The normalised final map is M itself, or zero if the logit of the masked image is not positive.
///
/// Maps `[B,1,H,W]` in 0..=1, the image's resolution. Three forward passes and one backward pass an image.
#[derive(Clone, Debug)]
pub struct AbsCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for AbsCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        let output = self.layer.forward(backbone, images)?;
        let weights = spatial_mean(self.layer.gradient(backbone, &output, classes).abs());
        let [_, channels, ..] = output.map.dims();
        let initial = (output.map * weights.reshape([batch, channels, 1, 1])).sum_dim(1);
        let initial = min_max(resize(initial, [height, width]));
        let logits = backbone.forward(images.clone() * initial.clone(), &[]).logits;
        let target = one_hot(indices(classes, &logits.device()))(logits.clone(), 0..batch);
        let scores = (logits * target).sum_dim(1).reshape([batch, 1, 1, 1]);
        Ok(min_max(relu(initial * scores)))
    }
}
