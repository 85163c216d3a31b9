//! Linear layers of a frozen network.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::linear;

use super::bias_add::bias_add;
use super::flex::to_flex;
use super::matrix::{FrozenMatrix, frozen_matmul};
use crate::weights::WeightReader;

/// Number of weights from which on [`FrozenMatrix`] is the faster one.
const LARGE: usize = 1 << 16;

/// `y = x W^T + b` over the last axis.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Tensor<1>,
}

#[derive(Clone, Debug)]
enum Weight {
    /// `[input, output]`, a transposed view, for Burn's `linear`.
    Burn(Tensor<2>),
    /// A large matrix in f32 on the CPU.
    Frozen(Arc<FrozenMatrix>),
}

impl Linear {
    /// Reads `{name}.weight` `[output, input]` and `{name}.bias` `[output]` of a layer that gets one vector for each image.
    pub fn read(reader: &mut WeightReader, name: &str, input: usize, output: usize) -> Self {
        let weight: Tensor<2> = reader.tensor(&format!("{name}.weight"), [output, input]);
        let bias = reader.tensor(&format!("{name}.bias"), [output]);
        Self { weight: Weight::new(weight, FrozenMatrix::vectors), bias }
    }

    /// Reads a layer that gets the tokens of a transformer. If `scale` names a tensor `[output]`, the layer scale, the outputs
    /// are multiplied by it.
    pub fn read_tokens(
        reader: &mut WeightReader,
        name: &str,
        input: usize,
        output: usize,
        scale: Option<&str>,
    ) -> Self {
        let mut weight: Tensor<2> = reader.tensor(&format!("{name}.weight"), [output, input]);
        let mut bias: Tensor<1> = reader.tensor(&format!("{name}.bias"), [output]);
        if let Some(scale) = scale {
            let scale: Tensor<1> = reader.tensor(scale, [output]);
            weight = weight * scale.clone().reshape([output, 1]);
            bias = bias * scale;
        }
        Self { weight: Weight::new(weight, FrozenMatrix::tokens), bias }
    }

    /// `[..., input]` to `[..., output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.weight {
            Weight::Frozen(matrix) => bias_add(frozen_matmul(x, matrix.clone()), self.bias.clone(), D - 1),
            Weight::Burn(weight) if super::has_custom_ops(&x) => {
                bias_add(linear(x, weight.clone(), None), self.bias.clone(), D - 1)
            }
            Weight::Burn(weight) => linear(x, weight.clone(), Some(self.bias.clone())),
        }
    }
}

impl Weight {
    /// The representation of `weight` `[output, input]`.
    fn new(weight: Tensor<2>, matrix: fn(super::flex::FlexTensor) -> FrozenMatrix) -> Self {
        let large = weight.shape().num_elements() >= LARGE;
        match large.then(|| to_flex(&weight)).flatten() {
            Some(own) => Self::Frozen(Arc::new(matrix(own))),
            None => Self::Burn(weight.transpose()),
        }
    }
}
