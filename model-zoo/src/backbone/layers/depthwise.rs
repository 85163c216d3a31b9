//! Depthwise convolution, whose input gradient is another one.
//!
//! The input gradient of a convolution is the convolution of the output's gradient, dilated by the stride, with the kernel
//! rotated by 180 degrees. With one filter a channel both are the same loop over planes.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_kernels::Stencil;

use super::flex::{FlexTensor, contiguous, tensor, values};
use super::geometry::ConvGeometry;

/// The operation for f32, by backend. The weights are constants and get no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Depthwise: Backend {
    /// x `[B,C,H,W]`, weight `[C,1,k,k]` to `[B,C,H',W']`.
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: ConvGeometry) -> FloatTensor<Self>;
}

impl Depthwise for Flex {
    fn depthwise(x: FlexTensor, weight: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let stencil = stencil(geometry, &x.shape(), &weight.shape());
        convolve(&x, values(&weight), stencil)
    }
}

impl<C: CheckpointStrategy> Depthwise for Autodiff<Flex, C> {
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, geometry: ConvGeometry) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = (FlexTensor, Stencil);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (weight, forward) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let side = forward.kernel * forward.kernel;
                    let rotated: Vec<f32> =
                        values(&weight).chunks_exact(side).flat_map(|filter| filter.iter().rev().copied()).collect();
                    convolve(&contiguous(gradient), &rotated, transposed(forward))
                });
            }
        }

        let ((x, node), weight) = (x.into_parts(), contiguous(weight.into_primitive()));
        let stencil = stencil(geometry, &x.shape(), &weight.shape());
        let y = Flex::depthwise(x, weight.clone(), geometry);
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight, stencil), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// The geometry over planes of x `[B,C,H,W]` with weight `[C,1,k,k]`.
fn stencil(geometry: ConvGeometry, x: &Shape, weight: &Shape) -> Stencil {
    let (input, kernel) = ([x[2], x[3]], weight[3]);
    Stencil {
        input,
        output: geometry.output(input, kernel),
        padding: geometry.padding.map(|(before, _)| before),
        kernel,
        stride: geometry.stride,
        input_dilation: 1,
    }
}

/// The geometry of the input gradient; its kernel is rotated.
fn transposed(forward: Stencil) -> Stencil {
    Stencil {
        input: forward.output,
        output: forward.input,
        padding: forward.padding.map(|before| forward.kernel - 1 - before),
        kernel: forward.kernel,
        stride: 1,
        input_dilation: forward.stride,
    }
}

/// The depthwise convolution of a contiguous x `[B,C,H,W]`.
fn convolve(x: &FlexTensor, filters: &[f32], stencil: Stencil) -> FlexTensor {
    let [height, width] = stencil.output;
    let shape = Shape::from(vec![x.shape()[0], x.shape()[1], height, width]);
    let mut output = vec![0.0; shape.num_elements()];
    stencil.run(values(x), filters, &mut output);
    tensor(output, shape)
}

/// x `[B,C,H,W]`, weight `[C,1,k,k]` to `[B,C,H',W']`.
pub fn depthwise(x: Tensor<4>, weight: Tensor<4>, geometry: ConvGeometry) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::depthwise(x.into_dispatch(), weight.into_dispatch(), geometry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_those_of_burn_s_convolution() {
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
                let geometry = ConvGeometry { stride, padding: [padding; 2] };
                let options = ConvOptions::new_with_padding([stride; 2], [padding; 2], [1, 1], 4);
                let run = |special: bool| {
                    let x = tensor("x", [2, 4, side, side]).require_grad();
                    let y = match special {
                        true => depthwise(x.clone(), weight.clone(), geometry),
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
