//! 1x1 convolution by matrix products; its gradients are products, too.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_products::{MatrixView, add_product, products};

use super::flex::{FlexTensor, contiguous, tensor, values};
use super::has_custom_ops;

/// x `[B,C,H,W]`, weight `[O,C,1,1]`, bias `[O]` to `[B,O,H,W]`. All three get gradients.
pub fn pointwise(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let [output, ..] = weight.dims();
    let product = match has_custom_ops(&x) && has_custom_ops(&weight) {
        true => Tensor::from_dispatch(Dispatch::pointwise_conv(x.into_dispatch(), weight.into_dispatch())),
        false => {
            let weight = weight.reshape([1, output, channels]);
            let product = weight.matmul(x.reshape([batch, channels, height * width]));
            product.reshape([batch, output, height, width])
        }
    };
    match bias {
        Some(bias) => product + bias.reshape([1, output, 1, 1]),
        None => product,
    }
}

/// The operation for f32, by backend.
#[backend_extension(Flex, Autodiff)]
pub trait Pointwise: Backend {
    /// x `[B,C,H,W]`, weight `[O,C,1,1]` to `[B,O,H,W]`.
    fn pointwise_conv(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Pointwise for Flex {
    fn pointwise_conv(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        multiply(matrix(&weight), &x)
    }
}

impl<C: CheckpointStrategy> Pointwise for Autodiff<Flex, C> {
    fn pointwise_conv(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToBoth;

        impl Backward<Flex, 2> for ToBoth {
            /// The weight, for the gradient of x; x, for the gradient of the weight.
            type State = (Option<FlexTensor>, Option<FlexTensor>);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (weight, x) = ops.state;
                let to_x = |gradient| match weight {
                    Some(weight) => multiply(matrix(&weight).transposed(), &contiguous(gradient)),
                    None => gradient,
                };
                let to_weight = |gradient| match x {
                    Some(x) => weight_gradient(&contiguous(gradient), &x),
                    None => gradient,
                };
                binary::<Flex, _, _>(ops.parents, ops.node, grads, to_x, to_weight);
            }
        }

        let (tracked_x, tracked_weight) = (x.is_tracked(), weight.is_tracked());
        let ((x, node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let y = Flex::pointwise_conv(x.clone(), weight.clone());
        match ToBoth.prepare::<C>([node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((tracked_x.then_some(weight), tracked_weight.then_some(x)), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// `[O,C,1,1]` as a matrix.
fn matrix(weight: &FlexTensor) -> MatrixView<'_> {
    MatrixView::new(values(weight), [weight.shape()[0], weight.shape()[1]])
}

/// The matrix `[O,C]` times each image of x `[B,C,H,W]`: `[B,O,H,W]`.
fn multiply(matrix: MatrixView<'_>, x: &FlexTensor) -> FlexTensor {
    let shape = x.shape();
    let [images, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    let (planes, cells) = (channels * height * width, height * width);
    let image = |i: usize| (matrix, MatrixView::new(&values(x)[i * planes..][..planes], [channels, cells]));
    tensor(products(images, [matrix.rows(), cells], image), Shape::from(vec![images, matrix.rows(), height, width]))
}

/// The gradient of the weight `[O,C,1,1]`, from that of the outputs `[B,O,H,W]`: each image's is added to the one before, so that there
/// are never as many as images.
fn weight_gradient(gradient: &FlexTensor, x: &FlexTensor) -> FlexTensor {
    let (shape, outputs) = (x.shape(), gradient.shape()[1]);
    let [channels, cells] = [shape[1], shape[2] * shape[3]];
    let mut sum = vec![0.0; outputs * channels];
    let images = values(gradient).chunks_exact((outputs * cells).max(1));
    for (g, x) in images.zip(values(x).chunks_exact((channels * cells).max(1))) {
        let (g, x) = (MatrixView::new(g, [outputs, cells]), MatrixView::new(x, [channels, cells]));
        add_product(g, x.transposed(), &mut sum);
    }
    tensor(sum, Shape::from(vec![outputs, channels, 1, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn values_and_gradients_are_those_of_burn_s_convolution() {
        let device = Device::flex().autodiff();
        let leaf = |name: &str, shape: [usize; 4], tracked: bool| {
            let values = TensorData::new(uniform(1, name, shape.iter().product()), shape);
            let leaf = Tensor::<4>::from_data(values, &device);
            if tracked { leaf.require_grad() } else { leaf }
        };
        for (images, channels, outputs, side) in [(1, 1, 1, 1), (3, 7, 5, 4), (5, 33, 70, 9), (2, 65, 3, 1)] {
            for (tracked_x, tracked_weight) in [(true, true), (true, false), (false, true)] {
                let run = |own: bool| {
                    // A view: the operation must respect offset and strides.
                    let stored = leaf("x", [images, channels + 1, side, side], tracked_x);
                    let x = stored.clone().narrow(1, 1, channels).swap_dims(2, 3);
                    let weight = leaf("w", [outputs, channels, 1, 1], tracked_weight);
                    let bias = Tensor::from_data(TensorData::new(uniform(1, "b", outputs), [outputs]), &device);
                    let y = match own {
                        true => pointwise(x, weight.clone(), Some(bias)),
                        false => conv2d(x, weight.clone(), Some(bias), ConvOptions::new([1; 2], [0; 2], [1; 2], 1)),
                    };
                    let gradients = (y.clone() * leaf("g", y.dims(), false)).sum().backward();
                    let of = |leaf: &Tensor<4>| leaf.grad(&gradients).map(Tensor::into_data);
                    (y.into_data(), [of(&stored), of(&weight)])
                };
                let ((y, found), (expected_y, expected)) = (run(true), run(false));
                let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
                y.assert_approx_eq(&expected_y, tolerance);
                for ((found, expected), tracked) in found.iter().zip(&expected).zip([tracked_x, tracked_weight]) {
                    assert_eq!((found.is_some(), expected.is_some()), (tracked, tracked));
                    found
                        .iter()
                        .zip(expected)
                        .for_each(|(found, expected)| found.assert_approx_eq(expected, tolerance));
                }
            }
        }
    }
}
