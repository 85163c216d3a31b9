//! Linear layers of a frozen network.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::linear;

use super::matrix::{Matrix, product};
use super::plain::plain;
use super::shift::shift;
use crate::weights::WeightReader;

/// Weights from which on it matters in which order they are read.
const LARGE: usize = 1 << 16;

/// `y = x W^T + b` over the last axis.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Tensor<1>,
}

#[derive(Clone, Debug)]
enum Weight {
    /// `[input, output]`, a view of what was read, as Burn's `linear` wants it.
    Burn(Tensor<2>),
    /// A large one on the CPU in f32.
    Own(Arc<Matrix>),
}

impl Linear {
    /// Reads `{name}.weight` `[output, input]` and `{name}.bias` `[output]` of a layer that sees one vector of each image.
    pub fn read(reader: &mut WeightReader, name: &str, input: usize, output: usize) -> Self {
        let weight: Tensor<2> = reader.tensor(&format!("{name}.weight"), [output, input]);
        let bias = reader.tensor(&format!("{name}.bias"), [output]);
        Self { weight: Weight::new(weight, Matrix::vectors), bias }
    }

    /// The same of a layer that sees the tokens of a transformer. Its outputs are multiplied by the values `scale` `[output]` names,
    /// if it does: a layer scale.
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
        Self { weight: Weight::new(weight, Matrix::tokens), bias }
    }

    /// `[..., input]` to `[..., output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.weight {
            Weight::Own(matrix) => shift(product(x, matrix.clone()), self.bias.clone(), D - 1),
            Weight::Burn(weight) if super::has_own_gradients(&x) => {
                shift(linear(x, weight.clone(), None), self.bias.clone(), D - 1)
            }
            Weight::Burn(weight) => linear(x, weight.clone(), Some(self.bias.clone())),
        }
    }
}

impl Weight {
    /// Of `weight` `[output, input]`.
    fn new(weight: Tensor<2>, matrix: fn(super::plain::Plain) -> Matrix) -> Self {
        let large = weight.shape().num_elements() >= LARGE;
        match large.then(|| plain(&weight)).flatten() {
            Some(own) => Self::Own(Arc::new(matrix(own))),
            None => Self::Burn(weight.transpose()),
        }
    }
}
