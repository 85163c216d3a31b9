//! A depthwise convolution whose gradient is a depthwise convolution.
//!
//! The gradient of a convolution with respect to its input is the convolution of the output's gradient, spread out by
//! the stride, with the mirrored kernel. For one filter a channel that keeps to the fast depthwise path of a backend,
//! where the general way through a transposed convolution takes several times as long.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Shape, Slice, Tensor};

/// The operation, by backend. The weights are constants: they get no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Depthwise: Backend {
    /// x `[B,C,H,W]`, weight `[C,1,k,k]` to `[B,C,H',W']`.
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self>;
}

impl Depthwise for Flex {
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, options)
    }
}

impl<B: Backend + Depthwise, C: CheckpointStrategy> Depthwise for Autodiff<B, C> {
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl<B: Backend> Backward<B, 1> for ToInput {
            type State = (FloatTensor<B>, Shape, ConvOptions<2>);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (weight, input, options) = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
                    input_gradient::<B>(gradient, weight, &input, &options)
                });
            }
        }

        let (plain, weight) = (x.primitive().clone(), weight.primitive().clone());
        match ToInput.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (weight.clone(), plain.shape(), options.clone());
                prep.finish(state, B::depthwise(plain, weight, options))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::depthwise(plain, weight, options)),
        }
    }
}

/// d/dx of <depthwise(x), gradient> for x of shape `input`.
fn input_gradient<B: Backend>(
    gradient: FloatTensor<B>,
    weight: FloatTensor<B>,
    input: &Shape,
    options: &ConvOptions<2>,
) -> FloatTensor<B> {
    let kernel = weight.shape();
    let (batch, channels) = (input[0], input[1]);
    let small = gradient.shape();
    let spread: [usize; 2] = [0, 1].map(|axis| (small[axis + 2] - 1) * options.stride[axis] + 1);
    let gradient = if options.stride == [1, 1] {
        gradient
    } else {
        let zeros = B::float_zeros(
            Shape::from(vec![batch, channels, spread[0], spread[1]]),
            &gradient.device(),
            gradient.dtype().into(),
        );
        let every = |axis: usize| Slice::new(0, None, options.stride[axis] as isize);
        B::float_slice_assign(zeros, &[Slice::full(), Slice::full(), every(0), every(1)], gradient)
    };
    let padding = [0, 1].map(|axis| {
        let before = kernel[axis + 2] - 1 - options.padding[axis].0;
        (before, input[axis + 2] + kernel[axis + 2] - 1 - spread[axis] - before)
    });
    let mirrored = B::float_flip(weight, &[2, 3]);
    B::conv2d(gradient, mirrored, None, ConvOptions::new_with_padding([1, 1], padding, [1, 1], channels))
}

/// x `[B,C,H,W]`, weight `[C,1,k,k]` to `[B,C,H',W']`.
pub fn depthwise(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::depthwise(x.into_dispatch(), weight.into_dispatch(), options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::conv2d;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_the_general_convolutions() {
        let device = Device::flex().autodiff();
        let tensor = |name: &str, shape: [usize; 4]| {
            let values = uniform(1, name, shape.iter().product());
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        for (kernel, stride, padding) in
            [(3, 1, (1, 1)), (3, 2, (0, 1)), (5, 2, (1, 2)), (5, 2, (2, 2)), (3, 2, (1, 1))]
        {
            for side in [8, 9] {
                let weight = tensor("w", [4, 1, kernel, kernel]);
                let options = ConvOptions::new_with_padding([stride; 2], [padding; 2], [1, 1], 4);
                let run = |special: bool| {
                    let x = tensor("x", [2, 4, side, side]).require_grad();
                    let y = match special {
                        true => depthwise(x.clone(), weight.clone(), options.clone()),
                        false => conv2d(x.clone(), weight.clone(), None, options.clone()),
                    };
                    let seed = tensor("g", y.dims());
                    let gradients = (y.clone() * seed).sum().backward();
                    (y.into_data(), x.grad(&gradients).unwrap().into_data())
                };
                let ((y, gradient), (expected_y, expected)) = (run(true), run(false));
                y.assert_approx_eq::<f32>(&expected_y, Tolerance::absolute(1e-4));
                gradient.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-4));
            }
        }
    }
}
