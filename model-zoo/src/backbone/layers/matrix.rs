//! Products with a frozen weight matrix. Forward and gradient each read the matrix in its memory order.
//!
//! A general product first packs its operands. Packing a transposed matrix costs as much as a product with a few hundred rows,
//! and many times as much as one with one or two.

use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_kernels::gemv;
use explainer_products::MatrixView;

use super::flex::{FlexTensor, contiguous, tensor, values};

/// Largest number of rows that are multiplied without packing the matrix. It is the number of features that pass through the
/// rest of a network together (`frozen.rs`, `SHARED_CHUNK`), so that the output of a feature does not depend on the others.
const FEW: usize = 8;

/// A frozen weight matrix of O outputs and I inputs.
#[derive(Debug)]
pub enum FrozenMatrix {
    /// `[O,I]`, as in files: for the few rows of a classifier's last layers.
    Vectors(FlexTensor),
    /// `[I,O]`: for the many tokens of a transformer.
    Tokens {
        forward: FlexTensor,
        /// `[O,I]`, made for the first gradient.
        backward: OnceLock<FlexTensor>,
    },
}

impl FrozenMatrix {
    /// A matrix for few rows, of `weight` `[O,I]`.
    pub fn vectors(weight: FlexTensor) -> Self {
        Self::Vectors(contiguous(weight))
    }

    /// A matrix for many rows, of `weight` `[O,I]`.
    pub fn tokens(weight: FlexTensor) -> Self {
        Self::Tokens { forward: transpose(weight), backward: OnceLock::new() }
    }

    /// x `[...,I]` to `[...,O]`.
    fn multiply(&self, x: FlexTensor) -> FlexTensor {
        match self {
            Self::Tokens { forward, .. } => over_rows(x, forward.shape()[1], |x| matmul(x, view(forward))),
            Self::Vectors(weight) => {
                let [outputs, inputs] = [weight.shape()[0], weight.shape()[1]];
                over_rows(x, outputs, |x| match x.shape()[0] {
                    ..=FEW => {
                        let (rows, x) = (x.shape()[0], contiguous(x));
                        let y = gemv::times_transposed(values(&x), values(weight), inputs);
                        tensor(y, Shape::from(vec![rows, outputs]))
                    }
                    _ => matmul(x, view(weight).transposed()),
                })
            }
        }
    }

    /// The gradient with respect to the input, `[...,I]`, given that of the output `[...,O]`.
    fn input_gradient(&self, gradient: FlexTensor) -> FlexTensor {
        match self {
            Self::Tokens { forward, backward } => {
                let backward = backward.get_or_init(|| transpose(forward.clone()));
                over_rows(gradient, backward.shape()[1], |g| matmul(g, view(backward)))
            }
            Self::Vectors(weight) => {
                let inputs = weight.shape()[1];
                over_rows(gradient, inputs, |g| match g.shape()[0] {
                    ..=FEW => {
                        let (rows, g) = (g.shape()[0], contiguous(g));
                        let to_x = gemv::times(values(&g), values(weight), inputs);
                        tensor(to_x, Shape::from(vec![rows, inputs]))
                    }
                    _ => matmul(g, view(weight)),
                })
            }
        }
    }
}

/// The transposed matrix, in row-major order.
fn transpose(matrix: FlexTensor) -> FlexTensor {
    contiguous(Flex::float_swap_dims(matrix, 0, 1))
}

/// The matrix as it is in memory.
fn view(matrix: &FlexTensor) -> MatrixView<'_> {
    MatrixView::new(values(matrix), [matrix.shape()[0], matrix.shape()[1]])
}

/// x `[R,W]` times `matrix` `[W,V]`: `[R,V]`.
fn matmul(x: FlexTensor, matrix: MatrixView<'_>) -> FlexTensor {
    let x = contiguous(x);
    let shape = Shape::from(vec![x.shape()[0], matrix.columns()]);
    tensor(explainer_products::product(view(&x), matrix), shape)
}

/// Reshapes x `[...,W]` to `[R,W]`, applies `product` to `[R,width]`, and reshapes to `[...,width]`.
fn over_rows(x: FlexTensor, width: usize, product: impl FnOnce(FlexTensor) -> FlexTensor) -> FlexTensor {
    let mut shape = x.shape().to_vec();
    let last = shape.pop().unwrap_or(1);
    let rows = Flex::float_reshape(x, Shape::from(vec![shape.iter().product(), last]));
    shape.push(width);
    Flex::float_reshape(product(rows), Shape::from(shape))
}

/// The operation for f32, by backend. The matrix is a constant and gets no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait FrozenMatmul: Backend {
    /// x `[...,I]` to `[...,O]`.
    fn frozen_matmul(x: FloatTensor<Self>, matrix: Arc<FrozenMatrix>) -> FloatTensor<Self>;
}

impl FrozenMatmul for Flex {
    fn frozen_matmul(x: FlexTensor, matrix: Arc<FrozenMatrix>) -> FlexTensor {
        matrix.multiply(x)
    }
}

impl<C: CheckpointStrategy> FrozenMatmul for Autodiff<Flex, C> {
    fn frozen_matmul(x: FloatTensor<Self>, matrix: Arc<FrozenMatrix>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = Arc<FrozenMatrix>;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let matrix = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| matrix.input_gradient(gradient));
            }
        }

        let (x, node) = x.into_parts();
        let y = Flex::frozen_matmul(x, matrix.clone());
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(matrix, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`FrozenMatmul::frozen_matmul`].
pub fn frozen_matmul<const D: usize>(x: Tensor<D>, matrix: Arc<FrozenMatrix>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::frozen_matmul(x.into_dispatch(), matrix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::linear;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_those_of_burn_s_linear() {
        let device = Device::flex().autodiff();
        let numbers =
            |name: &str, shape: &[usize]| TensorData::new(uniform(1, name, shape.iter().product()), shape.to_vec());
        for (shape, outputs) in [([1, 1, 70], 9), ([2, 4, 33], 50), ([3, 67, 40], 24), ([1, 9, 16], 1)] {
            let size = [outputs, shape[2]];
            let run = |matrix: Option<fn(FlexTensor) -> FrozenMatrix>| {
                // A view: the operation must respect offset and strides.
                let leaf = [shape[0], shape[2], shape[1] + 1];
                let leaf = Tensor::<3>::from_data(numbers("x", &leaf), &device).require_grad();
                let x = leaf.clone().narrow(2, 1, shape[1]).swap_dims(1, 2);
                let y = match matrix {
                    Some(matrix) => {
                        let weight = Tensor::<2>::from_data(numbers("w", &size), &Device::flex());
                        frozen_matmul(x, Arc::new(matrix(weight.try_into_primitive::<Flex>().unwrap())))
                    }
                    None => linear(x, Tensor::<2>::from_data(numbers("w", &size), &device).transpose(), None),
                };
                let seed = Tensor::<3>::from_data(numbers("g", &y.dims()), &device);
                let gradients = (y.clone() * seed).sum().backward();
                (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
            };
            let (expected_y, expected) = run(None);
            for matrix in [FrozenMatrix::vectors, FrozenMatrix::tokens] {
                let (y, gradient) = run(Some(matrix));
                y.assert_approx_eq::<f32>(&expected_y, Tolerance::rel_abs(1e-5, 1e-5));
                gradient.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));
            }
        }
    }
}
