//! Attention rollout.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

use super::patches::{Patches, class_row, identity, mean_of_heads};
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "rollout",
    title: "attention rollout",
    family: Family::Transformer,
    paper: "Abnar and Zuidema, 2020",
    access: Access::Attention,
    passes: "1 forward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(Rollout { patches: Patches::of_context(context, &INFO)? }))
}

/// Attention rollout (Abnar and Zuidema, 2020, equation 1 and section 3): the row of the class token in A_L ... A_1 with
/// A_l = (W_l + I) / 2, W_l the attention of block l, averaged over heads. The target class is not used.
///
/// Maps `[B,1,h,w]` in 0..=1, one value a patch. One forward pass an image.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The patches.
    pub patches: Patches,
}

impl AttributionMethod for Rollout {
    fn maps(&self, backbone: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        self.patches.explain(backbone, images, None, |blocks| {
            let mixed = |weights| {
                let mean = mean_of_heads(weights);
                (mean.clone() + identity(&mean)) / 2.0
            };
            let product =
                blocks.into_iter().map(|block| mixed(block.weights)).reduce(|before, block| block.matmul(before));
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            product.map_or_else(empty, |product| min_max(self.patches.map(class_row(product))))
        })
    }
}
