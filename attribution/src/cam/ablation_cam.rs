//! Ablation-CAM.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;

use crate::layer::{Layer, activation_map};
use crate::method::Built;
use crate::tensors::{chunks, class_scores};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "ablation-cam",
    title: "Ablation-CAM",
    family: Family::Cam,
    paper: "Desai and Ramaswamy, 2020",
    access: Access::ReplaceableTaps,
    passes: "1 + C forward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(AblationCam { layer: context.layer(&INFO)?, batch_size: context.batch_size }))
}

/// Ablation-CAM (Desai and Ramaswamy, 2020, equations 3 and 4): ReLU(sum_k w_k A_k) with w_k = (y - y_k) / y, y_k the class's
/// logit with channel k of the layer set to zero.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. 1 + C forward passes an image, C channels.
#[derive(Clone, Debug)]
pub struct AblationCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
    /// Ablated feature maps in one call of the backbone.
    pub batch_size: usize,
}

impl AttributionMethod for AblationCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let [_, channels, ..] = output.map.dims();
        // Row k keeps all channels but k.
        let kept = Tensor::<2>::eye(channels, &images.device()).neg().add_scalar(1.0);
        let mut weights = Vec::with_capacity(classes.len());
        for (image, class) in classes.iter().enumerate() {
            let one = output.image(image);
            let scores = chunks(channels, self.batch_size).map(|chunk| {
                let kept = kept.clone().narrow(0, chunk.start, chunk.len()).reshape([chunk.len(), channels, 1, 1]);
                class_scores(self.layer.logits_at(backbone, &one, one.map.clone() * kept), *class)
            });
            let ablated = Tensor::cat(scores.collect(), 0);
            let whole = class_scores(one.logits.clone(), *class);
            // A logit of zero would make every weight infinite; the weight is then the drop itself.
            let unit = whole.clone().mask_fill(whole.clone().equal_elem(0.0), 1.0);
            weights.push(((whole - ablated) / unit).unsqueeze::<2>());
        }
        Ok(activation_map(output.map, Tensor::cat(weights, 0)))
    }
}
