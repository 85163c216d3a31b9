//! Abs-CAM (Zeng et al., 2023).

use burn::tensor::{Tensor, activation::relu};

use super::layer::{Layer, spatial_mean};
use super::tensors::indices;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

/// Two phases. The initial map is M = min-max of sum_k w_k A_k, w_k the mean over positions of |dy/dA_k|, resized to the
/// image. The final one is ReLU(y(x * M) M), y(x * M) being the class's logit of the masked image.
///
/// Stretched to 0..1 the final map is the initial one, unless the class's logit is not positive where M is all that is
/// left of the image: then it is empty.
///
/// Three forward passes and a backward one.
#[derive(Clone, Debug)]
pub struct AbsCam {
    /// Whose feature maps are weighted.
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
        let seen = self.layer.look(backbone, images)?;
        let weights = spatial_mean(self.layer.gradient(backbone, &seen, classes).abs());
        let [_, channels, ..] = seen.map.dims();
        let initial = (seen.map * weights.reshape([batch, channels, 1, 1])).sum_dim(1);
        let initial = min_max(resize(initial, [height, width]));
        let logits = backbone.forward(images.clone() * initial.clone(), &[]).logits;
        let own = one_hot(indices(classes, &logits.device()))(logits.clone(), 0..batch);
        let scores = (logits * own).sum_dim(1).reshape([batch, 1, 1, 1]);
        Ok(min_max(relu(initial * scores)))
    }
}
