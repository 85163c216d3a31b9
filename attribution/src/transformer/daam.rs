//! DAAM.

use burn::tensor::{Tensor, activation::relu};
use explainer_zoo::backbone::{Backbone, BlockAttention, BlockAttentionGradient};
use explainer_zoo::maps::min_max;

use super::patches::Patches;
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "daam",
    title: "DAAM",
    family: Family::Transformer,
    paper: "Liao et al., 2025",
    access: Access::Attention,
    passes: "1 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(Daam { patches: Patches::of_context(context, &INFO)? }))
}

/// DAAM, the dynamic accumulated attention map (Liao et al., 2025): the sum over all blocks of ReLU(sum_c ReLU(g_c) S_cj), each
/// min-max normalised. S_cj = w_j V_jc is the contribution of patch j to channel c of the class token, with the class token's
/// attention w and the values V, head by head. g = dy/ds is the gradient of the class's logit with respect to
/// s_c = sum_j S_cj. The map is the accumulation over all blocks; those up to earlier blocks, which the paper shows as the
/// evolution of a decision, are not returned.
///
/// Maps `[B,1,h,w]` in 0..=1, one value a patch. One forward and one backward pass an image.
#[derive(Clone, Debug)]
pub struct Daam {
    /// The patches.
    pub patches: Patches,
}

impl AttributionMethod for Daam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        self.patches.explain(backbone, images, Some(classes), |blocks| {
            let maps = blocks.into_iter().filter_map(|block| {
                let gradient = block.gradient.clone()?;
                Some(min_max(relu(self.patches.map(contributions(block, gradient)))))
            });
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            maps.reduce(|sum, map| sum + map).map_or_else(empty, min_max)
        })
    }
}

/// sum_c ReLU(g_c) w_j V_jc for every token j, `[B,N]`.
fn contributions(block: BlockAttention, gradient: BlockAttentionGradient) -> Tensor<2> {
    let [batch, heads, tokens, depth] = block.values.dims();
    let coefficients = relu(gradient.heads.narrow(1, 0, 1)).reshape([batch, heads, depth, 1]);
    let weights = block.weights.narrow(2, 0, 1).reshape([batch, heads, tokens]);
    let projected = block.values.matmul(coefficients).reshape([batch, heads, tokens]);
    (weights * projected).sum_dim(1).reshape([batch, tokens])
}
