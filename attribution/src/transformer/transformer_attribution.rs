//! Transformer attribution.

use burn::tensor::{Tensor, activation::relu};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

use super::patches::{Patches, class_row, identity, mean_of_heads};
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "transformer-attribution",
    title: "transformer attribution",
    family: Family::Transformer,
    paper: "Chefer et al., 2021",
    access: Access::Attention,
    passes: "1 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(TransformerAttribution { patches: Patches::of_context(context, &INFO)? }))
}

/// Transformer attribution (Chefer et al., 2021): the row of the class token in R. R starts as I, and every block adds, from
/// the first to the last,
///
/// A R, A = mean over heads of ReLU(dy/dW * W),
///
/// W the block's attention and y the class's logit. This is the rule for self-attention of "Generic Attention-model
/// Explainability" (ICCV, equations 5 and 6), which uses the attention W itself instead of the layer-wise relevance of
/// "Transformer Interpretability Beyond Attention Visualization" (CVPR).
///
/// Maps `[B,1,h,w]` in 0..=1, one value a patch. One forward and one backward pass an image.
#[derive(Clone, Debug)]
pub struct TransformerAttribution {
    /// The patches.
    pub patches: Patches,
}

impl AttributionMethod for TransformerAttribution {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        self.patches.explain(backbone, images, Some(classes), |blocks| {
            let mut relevance: Option<Tensor<3>> = None;
            for block in blocks {
                let Some(gradient) = block.gradient else { continue };
                let weighted = mean_of_heads(relu(gradient.weights * block.weights));
                let before = relevance.unwrap_or_else(|| identity(&weighted));
                relevance = Some(before.clone() + weighted.matmul(before));
            }
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            relevance.map_or_else(empty, |relevance| min_max(self.patches.map(class_row(relevance))))
        })
    }
}
