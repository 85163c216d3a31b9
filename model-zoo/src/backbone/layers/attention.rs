//! Multi-head self-attention of a frozen transformer.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::{Linear, has_own_gradients, transformer};
use crate::backbone::TapHook;

/// softmax(Q K^T / sqrt(d)) V with one packed projection for queries, keys and values.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `width` to `3 * width`, in the order query, key, value.
    pub qkv: Linear,
    /// `width` to `width`.
    pub projection: Linear,
    /// Number of heads; divides `width`.
    pub heads: usize,
}

impl Attention {
    /// `[B,N,width]` to the same shape. Weights are shown to a watch that attends to them.
    pub fn forward(&self, x: Tensor<3>, watch: &mut dyn TapHook) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let packed = self.qkv.forward(x);
        if !watch.attends() && has_own_gradients(&packed) {
            return self.projection.forward(transformer::attention(packed, self.heads));
        }
        let depth = width / self.heads;
        let packed = packed.reshape([batch, tokens, 3 * self.heads, depth]).swap_dims(1, 2);
        let part = |i: usize| packed.clone().narrow(1, i * self.heads, self.heads);
        let side_by_side = |seen: Tensor<4>| seen.swap_dims(1, 2).reshape([batch, tokens, width]);
        if !watch.attends() {
            let seen = attention(part(0), part(1), part(2), None, None, AttentionModuleOptions::default());
            return self.projection.forward(side_by_side(seen));
        }
        let values = part(2);
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (depth as f32).sqrt();
        let weights = watch.weights(softmax(scores, 3), &values);
        self.projection.forward(watch.heads(side_by_side(weights.matmul(values))))
    }
}
