//! The layers that frozen networks are made of: plain tensors, no parameters, nothing that could be trained.

mod attention;
mod batch_norm;
mod conv;
mod dense;
mod depthwise;
mod linear;
mod matrix;
mod norm;
mod plain;
mod pointwise;
mod pool;
mod rectify;
mod shift;
mod transformer;

pub use attention::Attention;
pub use batch_norm::normalise;
pub use conv::{Conv2d, ConvSpec, Padding};
pub use linear::Linear;
pub use norm::{ChannelAffine, LayerNorm};
pub use pointwise::pointwise;
pub use pool::{Windows, max_pool};

use burn::tensor::{DType, Device, Tensor, activation};

/// The non-linearity behind a convolution.
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
    /// Applies the function element by element.
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

/// x P(X <= x) for a standard normal X, element by element.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match has_own_gradients(&x) {
        true => transformer::gelu(x),
        // Not Burn's own GELU: its gradient is that of another function, the approximation by tanh.
        false => x.clone() * ((x / std::f32::consts::SQRT_2).erf() + 1.0) * 0.5,
    }
}

/// Whether the operations with gradients of their own exist for `x`: in f32 on the CPU. Elsewhere Burn's are taken.
fn has_own_gradients<const D: usize>(x: &Tensor<D>) -> bool {
    x.device().without_autodiff() == Device::flex() && x.dtype() == DType::F32
}

/// Mean over height and width: `[B,C,H,W]` to `[B,C]`.
pub fn global_average(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}
