//! Multi-head self-attention of a frozen transformer.

use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::{Linear, has_own_gradients, transformer};

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
    /// `[B,N,width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let packed = self.qkv.forward(x);
        if has_own_gradients(&packed) {
            return self.projection.forward(transformer::attention(packed, self.heads));
        }
        let packed = packed.reshape([batch, tokens, 3 * self.heads, width / self.heads]).swap_dims(1, 2);
        let part = |i: usize| packed.clone().narrow(1, i * self.heads, self.heads);
        let seen = attention(part(0), part(1), part(2), None, None, AttentionModuleOptions::default());
        self.projection.forward(seen.swap_dims(1, 2).reshape([batch, tokens, width]))
    }
}
