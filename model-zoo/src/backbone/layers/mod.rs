//! The layers of frozen networks: functions of tensors, without trainable parameters.
//!
//! In f32 on the CPU most have custom operations with gradients of their own (decision 9); elsewhere Burn's are used.

mod attention;
mod batch_norm;
mod bias_add;
mod bias_relu;
mod conv;
mod depthwise;
mod flex;
mod geometry;
mod im2col_conv;
mod linear;
mod matrix;
mod norm;
mod pointwise;
mod pool;
mod transformer;

pub use attention::Attention;
pub use batch_norm::normalise_batch;
pub use conv::{Conv2d, ConvSpec, Padding};
pub use linear::Linear;
pub use norm::{ChannelAffine, LayerNorm};
pub use pointwise::pointwise;
pub use pool::{PoolSpec, max_pool};

use burn::tensor::{DType, Device, Tensor, activation};

/// The activation function after a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x * min(max(x + 3, 0), 6) / 6
    HardSwish,
}

impl Activation {
    /// Applies the function element-wise.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::HardSwish => x.clone() * hard_sigmoid(x),
        }
    }
}

/// min(max(x + 3, 0), 6) / 6
pub fn hard_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

/// GELU: x P(X <= x) for a standard normal X, element-wise.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match has_custom_ops(&x) {
        true => transformer::gelu(x),
        // Not Burn's GELU: its gradient is that of the tanh approximation.
        false => x.clone() * ((x / std::f32::consts::SQRT_2).erf() + 1.0) * 0.5,
    }
}

/// Whether the custom operations exist for `x`: in f32 on the CPU.
fn has_custom_ops<const D: usize>(x: &Tensor<D>) -> bool {
    x.device().without_autodiff() == Device::flex() && x.dtype() == DType::F32
}

/// Global average pooling: `[B,C,H,W]` to `[B,C]`.
pub fn global_average(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}
