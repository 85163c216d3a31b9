//! Ablation-CAM (Desai and Ramaswamy, 2020).

use burn::tensor::Tensor;

use super::layer::{Layer, activation_map};
use super::tensors::{column, parts};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;

/// ReLU(sum_k w_k A_k) with w_k = (y - y_k) / y, y_k the class's logit where channel k of the layer is zero (equations 3
/// and 4).
///
/// 1 + C forward passes, C the layer's channels.
#[derive(Clone, Debug)]
pub struct AblationCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
    /// Feature maps with a channel less in memory at a time.
    pub per_call: usize,
}

impl AttributionMethod for AblationCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let [_, channels, ..] = seen.map.dims();
        // Row k lacks channel k.
        let kept = Tensor::<2>::eye(channels, &images.device()).neg().add_scalar(1.0);
        let mut weights = Vec::with_capacity(classes.len());
        for (image, class) in classes.iter().enumerate() {
            let one = seen.one(image);
            let scores = parts(channels, self.per_call).map(|part| {
                let kept = kept.clone().narrow(0, part.start, part.len()).reshape([part.len(), channels, 1, 1]);
                column(self.layer.logits(backbone, &one, one.map.clone() * kept), *class)
            });
            let ablated = Tensor::cat(scores.collect(), 0);
            let whole = column(one.logits.clone(), *class);
            // A logit of zero would make every weight infinite: then it is the drop itself.
            let unit = whole.clone().mask_fill(whole.clone().equal_elem(0.0), 1.0);
            weights.push(((whole - ablated) / unit).unsqueeze::<2>());
        }
        Ok(activation_map(seen.map, Tensor::cat(weights, 0)))
    }
}
