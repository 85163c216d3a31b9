//! Chefer's transformer attribution (Chefer et al., CVPR and ICCV 2021).

use burn::tensor::{Tensor, activation::relu};

use super::tokens::{Patches, class_row, mean_of_heads, unit};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

/// The row of the class token in R, where R begins as I and every block adds to it, from the first to the last,
///
/// A R, A = mean over heads of ReLU(dy/dW * W),
///
/// W being the block's attention and y the class's logit. It is the rule for self-attention of "Generic Attention-model
/// Explainability" (ICCV, equations 5 and 6), in which the authors put the attention W itself in the place of the layer-wise
/// relevance of "Transformer Interpretability Beyond Attention Visualization" (CVPR).
///
/// A forward and a backward pass.
#[derive(Clone, Debug)]
pub struct TransformerAttribution {
    /// Where the patches are.
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
                let taken = mean_of_heads(relu(gradient.weights * block.weights));
                let before = relevance.unwrap_or_else(|| unit(&taken));
                relevance = Some(before.clone() + taken.matmul(before));
            }
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            relevance.map_or_else(empty, |relevance| min_max(self.patches.map(class_row(relevance))))
        })
    }
}
