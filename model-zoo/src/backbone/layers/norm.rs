//! Normalisation layers of a frozen network.

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use super::{has_custom_ops, transformer};
use crate::weights::WeightReader;

/// Layer normalisation over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
}

impl LayerNorm {
    /// Reads `{name}.weight` and `{name}.bias`, both `[width]`.
    pub fn read(reader: &mut WeightReader, name: &str, width: usize, epsilon: f64) -> Self {
        Self {
            gamma: reader.tensor(&format!("{name}.weight"), [width]),
            beta: reader.tensor(&format!("{name}.bias"), [width]),
            epsilon,
        }
    }

    /// `[..., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        match has_custom_ops(&x) {
            true => transformer::layer_norm(x, gamma, beta, self.epsilon),
            false => layer_norm(x, gamma, Some(beta), self.epsilon),
        }
    }
}

/// Batch normalisation with running statistics that is not folded into a convolution: a scale and a shift of each channel.
#[derive(Clone, Debug)]
pub struct ChannelAffine {
    scale: Tensor<4>,
    shift: Tensor<4>,
}

impl ChannelAffine {
    /// Reads `{name}.weight|bias|running_mean|running_var`, all `[channels]`.
    pub fn read_norm(reader: &mut WeightReader, name: &str, channels: usize, epsilon: f64) -> Self {
        let mut part = |part: &str| -> Tensor<1> { reader.tensor(&format!("{name}.{part}"), [channels]) };
        let (gamma, beta) = (part("weight"), part("bias"));
        let (mean, variance) = (part("running_mean"), part("running_var"));
        let scale = gamma / (variance + epsilon).sqrt();
        let shift = beta - mean * scale.clone();
        Self { scale: scale.reshape([1, channels, 1, 1]), shift: shift.reshape([1, channels, 1, 1]) }
    }

    /// `[B,C,H,W]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        x * self.scale.clone() + self.shift.clone()
    }
}
