//! A product with a frozen matrix, whose gradient is another one, each with the matrix read in the order in which it lies.
//!
//! A general product first copies its operands. A matrix that lies across costs as much to copy as to multiply where there are a few
//! hundred rows, and many times as much where there are one or two.

use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_kernels::rows;
use explainer_products::Matrix as View;

use super::plain::{Plain, contiguous, tensor, values};

/// Rows, at most, for which no product that copies the matrix pays: those of all features of an image that pass the rest of a network
/// together, so that what a feature gives does not depend on how many go with it (`frozen.rs`, `SHARED_CHUNK`).
const FEW: usize = 8;

/// A frozen matrix of `O` outputs and `I` inputs.
#[derive(Debug)]
pub enum Matrix {
    /// `[O,I]`, as files have it: for the few rows that a classifier's last layers see.
    Vectors(Plain),
    /// `[I,O]`: for the tokens of a transformer.
    Tokens {
        forward: Plain,
        /// `[O,I]`, made when a gradient is first asked for.
        backward: OnceLock<Plain>,
    },
}

impl Matrix {
    /// For few rows; `weight` is `[O,I]`.
    pub fn vectors(weight: Plain) -> Self {
        Self::Vectors(contiguous(weight))
    }

    /// For many rows; `weight` is `[O,I]`.
    pub fn tokens(weight: Plain) -> Self {
        Self::Tokens { forward: turned(weight), backward: OnceLock::new() }
    }

    /// x `[...,I]` to `[...,O]`.
    fn multiply(&self, x: Plain) -> Plain {
        match self {
            Self::Tokens { forward, .. } => over_rows(x, forward.shape()[1], |x| times(x, whole(forward))),
            Self::Vectors(weight) => {
                let [outputs, inputs] = [weight.shape()[0], weight.shape()[1]];
                over_rows(x, outputs, |x| match x.shape()[0] {
                    ..=FEW => {
                        let (rows, x) = (x.shape()[0], contiguous(x));
                        let y = rows::times_transposed(values(&x), values(weight), inputs);
                        tensor(y, Shape::from(vec![rows, outputs]))
                    }
                    _ => times(x, whole(weight).transposed()),
                })
            }
        }
    }

    /// The output's gradient `[...,O]` to the input's `[...,I]`.
    fn pull_back(&self, gradient: Plain) -> Plain {
        match self {
            Self::Tokens { forward, backward } => {
                let backward = backward.get_or_init(|| turned(forward.clone()));
                over_rows(gradient, backward.shape()[1], |g| times(g, whole(backward)))
            }
            Self::Vectors(weight) => {
                let inputs = weight.shape()[1];
                over_rows(gradient, inputs, |g| match g.shape()[0] {
                    ..=FEW => {
                        let (rows, g) = (g.shape()[0], contiguous(g));
                        let to_x = rows::times(values(&g), values(weight), inputs);
                        tensor(to_x, Shape::from(vec![rows, inputs]))
                    }
                    _ => times(g, whole(weight)),
                })
            }
        }
    }
}

/// Rows and columns exchanged, in memory too.
fn turned(matrix: Plain) -> Plain {
    contiguous(Flex::float_swap_dims(matrix, 0, 1))
}

/// `[O,I]` or `[I,O]`, as it lies.
fn whole(matrix: &Plain) -> View<'_> {
    View::new(values(matrix), [matrix.shape()[0], matrix.shape()[1]])
}

/// x `[R,W]` times `matrix` `[W,V]`: `[R,V]`.
fn times(x: Plain, matrix: View<'_>) -> Plain {
    let x = contiguous(x);
    let shape = Shape::from(vec![x.shape()[0], matrix.columns()]);
    tensor(explainer_products::product(whole(&x), matrix), shape)
}

/// x `[...,W]` as the rows `[R,W]` that `product` takes to `[R,width]`, back to `[...,width]`.
fn over_rows(x: Plain, width: usize, product: impl FnOnce(Plain) -> Plain) -> Plain {
    let mut shape = x.shape().to_vec();
    let last = shape.pop().unwrap_or(1);
    let rows = Flex::float_reshape(x, Shape::from(vec![shape.iter().product(), last]));
    shape.push(width);
    Flex::float_reshape(product(rows), Shape::from(shape))
}

/// The operation, by backend, for f32. The matrix is a constant: it gets no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Product: Backend {
    /// x `[...,I]` to `[...,O]`.
    fn product(x: FloatTensor<Self>, matrix: Arc<Matrix>) -> FloatTensor<Self>;
}

impl Product for Flex {
    fn product(x: Plain, matrix: Arc<Matrix>) -> Plain {
        matrix.multiply(x)
    }
}

impl<C: CheckpointStrategy> Product for Autodiff<Flex, C> {
    fn product(x: FloatTensor<Self>, matrix: Arc<Matrix>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = Arc<Matrix>;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let matrix = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| matrix.pull_back(gradient));
            }
        }

        let (x, node) = x.into_parts();
        let y = Flex::product(x, matrix.clone());
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(matrix, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`Product::product`].
pub fn product<const D: usize>(x: Tensor<D>, matrix: Arc<Matrix>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::product(x.into_dispatch(), matrix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::linear;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_the_linear_layer_s() {
        let device = Device::flex().autodiff();
        let numbers =
            |name: &str, shape: &[usize]| TensorData::new(uniform(1, name, shape.iter().product()), shape.to_vec());
        for (shape, outputs) in [([1, 1, 70], 9), ([2, 4, 33], 50), ([3, 67, 40], 24), ([1, 9, 16], 1)] {
            let size = [outputs, shape[2]];
            let run = |matrix: Option<fn(Plain) -> Matrix>| {
                // A view: the operation must respect offset and strides.
                let leaf = [shape[0], shape[2], shape[1] + 1];
                let leaf = Tensor::<3>::from_data(numbers("x", &leaf), &device).require_grad();
                let x = leaf.clone().narrow(2, 1, shape[1]).swap_dims(1, 2);
                let y = match matrix {
                    Some(matrix) => {
                        let weight = Tensor::<2>::from_data(numbers("w", &size), &Device::flex());
                        product(x, Arc::new(matrix(weight.try_into_primitive::<Flex>().unwrap())))
                    }
                    None => linear(x, Tensor::<2>::from_data(numbers("w", &size), &device).transpose(), None),
                };
                let seed = Tensor::<3>::from_data(numbers("g", &y.dims()), &device);
                let gradients = (y.clone() * seed).sum().backward();
                (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
            };
            let (expected_y, expected) = run(None);
            for matrix in [Matrix::vectors, Matrix::tokens] {
                let (y, gradient) = run(Some(matrix));
                y.assert_approx_eq::<f32>(&expected_y, Tolerance::rel_abs(1e-5, 1e-5));
                gradient.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));
            }
        }
    }
}
