//! Multi-head self-attention of a frozen transformer.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::{Linear, has_custom_ops, transformer};
use crate::backbone::TapHook;

/// Multi-head self-attention with one packed projection for queries, keys and values.
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
    /// `[B,N,width]` to the same shape. A hook that needs attention gets the weights and the output of the heads.
    pub fn forward(&self, x: Tensor<3>, hook: &mut dyn TapHook) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let packed = self.qkv.forward(x);
        if !hook.needs_attention() && has_custom_ops(&packed) {
            return self.projection.forward(transformer::attention(packed, self.heads));
        }
        let depth = width / self.heads;
        let packed = packed.reshape([batch, tokens, 3 * self.heads, depth]).swap_dims(1, 2);
        let part = |i: usize| packed.clone().narrow(1, i * self.heads, self.heads);
        let merge_heads = |output: Tensor<4>| output.swap_dims(1, 2).reshape([batch, tokens, width]);
        if !hook.needs_attention() {
            let output = attention(part(0), part(1), part(2), None, None, AttentionModuleOptions::default());
            return self.projection.forward(merge_heads(output));
        }
        let values = part(2);
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (depth as f32).sqrt();
        let weights = hook.attention_weights(softmax(scores, 3), &values);
        self.projection.forward(hook.attention_output(merge_heads(weights.matmul(values))))
    }
}
