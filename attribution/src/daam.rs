//! DAAM, the dynamic accumulated attention map (Liao et al., 2025).

use burn::tensor::{Tensor, activation::relu};

use super::tokens::Patches;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::{Backbone, BlockAttention, BlockAttentionGradient};
use explainer_zoo::maps::min_max;

/// The sum over all blocks of ReLU(sum_c ReLU(g_c) S_cj), each stretched to 0..1: S_cj = w_j V_jc is what the class token
/// takes of patch j in channel c, with its attention w and the patch's values V, head by head, and g = dy/ds the gradient of
/// the class's logit with respect to all that the class token takes, s_c = sum_j S_cj. The map of the last block is the
/// whole accumulation; those of earlier blocks, which the paper shows as the evolution of a decision, are not drawn.
///
/// A forward and a backward pass.
#[derive(Clone, Debug)]
pub struct Daam {
    /// Where the patches are.
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
                Some(min_max(relu(self.patches.map(taken(block, gradient)))))
            });
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            maps.reduce(|sum, map| sum + map).map_or_else(empty, min_max)
        })
    }
}

/// sum_c ReLU(g_c) w_j V_jc for every token j, `[B,N]`.
fn taken(block: BlockAttention, gradient: BlockAttentionGradient) -> Tensor<2> {
    let [batch, heads, tokens, depth] = block.values.dims();
    let coefficients = relu(gradient.heads.narrow(1, 0, 1)).reshape([batch, heads, depth, 1]);
    let weights = block.weights.narrow(2, 0, 1).reshape([batch, heads, tokens]);
    let worth = block.values.matmul(coefficients).reshape([batch, heads, tokens]);
    (weights * worth).sum_dim(1).reshape([batch, tokens])
}
