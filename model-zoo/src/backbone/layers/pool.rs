//! Max pooling; its gradient is recomputed from the input.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Shape, Tensor};
use explainer_kernels::Stencil;

use super::flex::{FlexTensor, contiguous, tensor, values};
use super::has_custom_ops;

/// Square pooling windows.
#[derive(Clone, Copy, Debug)]
pub struct PoolSpec {
    /// Side of a window.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding of minus infinity on every side, at most half a window.
    pub padding: usize,
}

/// Max pooling of x `[B,C,H,W]`, at least as large as a window, to `[B,C,H',W']`.
pub fn max_pool(x: Tensor<4>, spec: PoolSpec) -> Tensor<4> {
    if has_custom_ops(&x) {
        return Tensor::from_dispatch(Dispatch::custom_max_pool(x.into_dispatch(), spec));
    }
    let PoolSpec { kernel, stride, padding } = spec;
    max_pool2d(x, MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]))
}

/// The operation for f32, by backend.
#[backend_extension(Flex, Autodiff)]
pub trait MaxPool: Backend {
    /// x `[B,C,H,W]` to `[B,C,H',W']`.
    fn custom_max_pool(x: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self>;
}

impl MaxPool for Flex {
    fn custom_max_pool(x: FlexTensor, spec: PoolSpec) -> FlexTensor {
        let x = contiguous(x);
        let (shape, stencil) = (x.shape(), spec.stencil(&x));
        let shape = Shape::from(vec![shape[0], shape[1], stencil.output[0], stencil.output[1]]);
        let mut y = vec![0.0; shape.num_elements()];
        stencil.max_pool(values(&x), &mut y);
        tensor(y, shape)
    }
}

impl<C: CheckpointStrategy> MaxPool for Autodiff<Flex, C> {
    fn custom_max_pool(x: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = (FlexTensor, PoolSpec);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (x, spec) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let (shape, gradient) = (x.shape(), contiguous(gradient));
                    let mut back = vec![0.0; shape.num_elements()];
                    spec.stencil(&x).max_pool_gradient(values(&x), values(&gradient), &mut back);
                    tensor(back, shape)
                });
            }
        }

        let (x, node) = x.into_parts();
        let x = contiguous(x);
        let y = Flex::custom_max_pool(x.clone(), spec);
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, spec), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

impl PoolSpec {
    fn stencil(self, x: &FlexTensor) -> Stencil {
        let input = [x.shape()[2], x.shape()[3]];
        let output = input.map(|side| (side + 2 * self.padding).saturating_sub(self.kernel) / self.stride.max(1) + 1);
        let padding = [self.padding; 2];
        Stencil { input, output, padding, kernel: self.kernel, stride: self.stride.max(1), input_dilation: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_burn_s() {
        let device = Device::flex().autodiff();
        for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1)] {
            let run = |own: bool| {
                // Few distinct values, so that some are equal, as a view: the operation must respect offset and strides.
                let numbers = uniform(1, "x", 2 * 4 * 7 * 10).into_iter().map(|value| (value * 8.0).round()).collect();
                let leaf = Tensor::<4>::from_data(TensorData::new::<f32, _>(numbers, [2, 4, 7, 10]), &device);
                let leaf = leaf.require_grad();
                let x = leaf.clone().narrow(1, 1, 3).swap_dims(2, 3);
                let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
                let y = match own {
                    true => max_pool(x, PoolSpec { kernel, stride, padding }),
                    false => max_pool2d(x, options),
                };
                let numbers = TensorData::new(uniform(1, "g", y.shape().num_elements()), y.dims());
                let gradients = (y.clone() * Tensor::from_data(numbers, &device)).sum().backward();
                (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
            };
            let ((y, gradient), (expected_y, expected)) = (run(true), run(false));
            assert_eq!(y, expected_y);
            gradient.assert_approx_eq::<f32>(&expected, burn::tensor::Tolerance::absolute(1e-6));
        }
    }
}
