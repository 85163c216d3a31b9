//! The attention of a transformer's blocks.

use std::ops::Range;

use burn::tensor::Tensor;

use super::Cotangent;
use super::network::{TapHook, cat};

/// The attention of one block, for B images of N tokens; prefix tokens come first.
#[derive(Clone, Debug)]
pub struct BlockAttention {
    /// softmax(Q K^T / sqrt(d)), `[B,H,N,N]`: row i is the attention of token i to each token.
    pub weights: Tensor<4>,
    /// V, `[B,H,N,d]`.
    pub values: Tensor<4>,
    /// Gradients of <logits, cotangent>, if a cotangent was given.
    pub gradient: Option<BlockAttentionGradient>,
}

/// Gradients with respect to a block's attention.
#[derive(Clone, Debug)]
pub struct BlockAttentionGradient {
    /// With respect to the weights, `[B,H,N,N]`.
    pub weights: Tensor<4>,
    /// With respect to the heads' output, weights times values, concatenated, `[B,N,H d]`.
    pub heads: Tensor<3>,
}

impl BlockAttention {
    /// Concatenates the blocks of all chunks along the batch; `None` for a network without attention.
    pub(super) fn stack(chunks: Vec<Vec<Self>>) -> Option<Vec<Self>> {
        let blocks = chunks.first().map_or(0, Vec::len);
        let mut parts: Vec<Vec<Self>> = (0..blocks).map(|_| Vec::new()).collect();
        for chunk in chunks {
            parts.iter_mut().zip(chunk).for_each(|(parts, part)| parts.push(part));
        }
        let block = |parts: Vec<Self>| {
            let gradients: Option<Vec<_>> = parts.iter().map(|part| part.gradient.clone()).collect();
            Self {
                weights: cat(parts.iter().map(|part| part.weights.clone()).collect()),
                values: cat(parts.into_iter().map(|part| part.values).collect()),
                gradient: gradients.map(|parts| BlockAttentionGradient {
                    weights: cat(parts.iter().map(|part| part.weights.clone()).collect()),
                    heads: cat(parts.into_iter().map(|part| part.heads).collect()),
                }),
            }
        };
        (blocks > 0).then(|| parts.into_iter().map(block).collect())
    }
}

/// A hook that collects the attention of every block.
///
/// For gradients it adds a leaf of zeros to each tensor: the gradient with respect to the leaf is that with respect to the
/// sum, which itself is not a leaf.
pub(super) struct AttentionHook {
    gradients: bool,
    blocks: Vec<BlockAttention>,
    leaves: Vec<(Tensor<4>, Option<Tensor<3>>)>,
}

impl AttentionHook {
    /// A hook with or without gradients.
    pub(super) fn new(gradients: bool) -> Self {
        Self { gradients, blocks: Vec::new(), leaves: Vec::new() }
    }

    /// The blocks with their gradients, given the logits of the images `range`.
    pub(super) fn finish(
        mut self,
        logits: Tensor<2>,
        range: Range<usize>,
        cotangent: Option<Cotangent<'_>>,
    ) -> Vec<BlockAttention> {
        if let Some(cotangent) = cotangent.filter(|_| !self.blocks.is_empty()) {
            let seed = cotangent(logits.clone().without_autodiff(), range).without_autodiff();
            let gradients = (logits * seed.autodiff()).sum().backward();
            for (block, (weights, heads)) in self.blocks.iter_mut().zip(self.leaves) {
                // Without a path from the leaf to the logits the gradient is zero.
                let to_weights = weights.grad(&gradients).unwrap_or_else(|| block.weights.zeros_like());
                let to_heads = heads.map(|heads| {
                    let zeros = || heads.clone().without_autodiff().zeros_like();
                    heads.grad(&gradients).unwrap_or_else(zeros).without_autodiff()
                });
                block.gradient =
                    to_heads.map(|heads| BlockAttentionGradient { weights: to_weights.without_autodiff(), heads });
            }
        }
        self.blocks
    }
}

impl TapHook for AttentionHook {
    fn needs(&self, _: &str) -> bool {
        false
    }

    fn needs_attention(&self) -> bool {
        true
    }

    fn attention_weights(&mut self, weights: Tensor<4>, values: &Tensor<4>) -> Tensor<4> {
        let plain = weights.clone().without_autodiff();
        let values = values.clone().without_autodiff();
        self.blocks.push(BlockAttention { weights: plain.clone(), values, gradient: None });
        if !self.gradients {
            return weights;
        }
        let leaf = plain.zeros_like().autodiff().require_grad();
        self.leaves.push((leaf.clone(), None));
        weights + leaf
    }

    fn attention_output(&mut self, output: Tensor<3>) -> Tensor<3> {
        let Some((_, slot)) = self.leaves.last_mut() else { return output };
        let leaf = output.clone().without_autodiff().zeros_like().autodiff().require_grad();
        *slot = Some(leaf.clone());
        output + leaf
    }
}
