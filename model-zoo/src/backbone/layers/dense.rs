//! A convolution with step 1 as matrix products, whose gradient is another one.
//!
//! Burn's own converts images, filters and results between layouts in every call, and takes another way back. With the taps of
//! a channel side by side ([`Columns`]) filters and planes stay as they are.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_kernels::columns::{Columns, turned};
use rayon::prelude::*;

use super::plain::{Plain, contiguous, tensor, values};
use crate::backbone::workers::split;

/// Inputs, f32, that are laid out at a time: about what a core's caches hold.
const BLOCK: usize = 1 << 20;

/// Frozen filters `[O,C,k,k]`, k odd, and those of the gradient, made when it is first asked for.
#[derive(Debug)]
pub struct Filters {
    /// `[1,O,C k k]`
    forward: Plain,
    /// `[1,C,O k k]`
    backward: OnceLock<Plain>,
    /// O and C.
    channels: [usize; 2],
    kernel: usize,
}

impl Filters {
    /// Of a convolution from C to O channels.
    pub fn new(weight: Vec<f32>, [outputs, inputs]: [usize; 2], kernel: usize) -> Self {
        let forward = tensor(weight, Shape::from(vec![1, outputs, inputs * kernel * kernel]));
        Self { forward, backward: OnceLock::new(), channels: [outputs, inputs], kernel }
    }

    /// x `[B,C,H,W]` to `[B,O,H,W]`.
    fn convolve(&self, x: Plain) -> Plain {
        let [outputs, _] = self.channels;
        self.multiply(x, &self.forward, outputs)
    }

    /// The output's gradient to the input's.
    fn pull_back(&self, gradient: Plain) -> Plain {
        let [outputs, inputs] = self.channels;
        let shape = || Shape::from(vec![1, inputs, outputs * self.kernel * self.kernel]);
        let filters = self.backward.get_or_init(|| tensor(turned(values(&self.forward), self.channels), shape()));
        self.multiply(gradient, filters, inputs)
    }

    fn multiply(&self, x: Plain, filters: &Plain, outputs: usize) -> Plain {
        let x = contiguous(x);
        let (images, height, width) = (x.shape()[0], x.shape()[2], x.shape()[3]);
        let shape = Shape::from(vec![images, outputs, height, width]);
        let mut y = vec![0.0; shape.num_elements()];
        let (columns, taps) = (Columns { size: [height, width], kernel: self.kernel }, filters.shape()[2]);
        let rows = (BLOCK / (taps * width).max(1)).max(1);
        // No block has rows of two images: what an image gives must not depend on its neighbours in the batch.
        let blocks: Vec<(usize, Range<usize>)> =
            (0..images).flat_map(|image| split(0..height, rows).map(move |rows| (image, rows))).collect();
        let planes = values(&x).len() / images.max(1);
        let product = |(image, rows): &(usize, Range<usize>)| {
            let laid_out = columns.of(&values(&x)[image * planes..][..planes], rows.clone());
            let laid_out = tensor(laid_out, Shape::from(vec![1, taps, rows.len() * width]));
            contiguous(Flex::float_matmul(filters.clone(), laid_out))
        };
        let mut place = |(image, rows): &(usize, Range<usize>), product: &Plain| {
            let count = (rows.len() * width).max(1);
            for (channel, values) in values(product).chunks_exact(count).enumerate() {
                let at = ((image * outputs + channel) * height + rows.start) * width;
                y[at..][..count].copy_from_slice(values);
            }
        };
        if rayon::current_num_threads() == 1 {
            blocks.iter().for_each(|block| place(block, &product(block)));
        } else {
            let products: Vec<Plain> = blocks.par_iter().map(product).collect();
            blocks.iter().zip(&products).for_each(|(block, product)| place(block, product));
        }
        tensor(y, shape)
    }
}

/// The operation, by backend, for f32. The filters are constants: they get no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Dense: Backend {
    /// x `[B,C,H,W]`, zeros around it, to `[B,O,H,W]`.
    fn dense(x: FloatTensor<Self>, filters: Arc<Filters>) -> FloatTensor<Self>;
}

impl Dense for Flex {
    fn dense(x: Plain, filters: Arc<Filters>) -> Plain {
        filters.convolve(x)
    }
}

impl<C: CheckpointStrategy> Dense for Autodiff<Flex, C> {
    fn dense(x: FloatTensor<Self>, filters: Arc<Filters>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = Arc<Filters>;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let filters = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| filters.pull_back(gradient));
            }
        }

        let (x, node) = x.into_parts();
        let y = Flex::dense(x, filters.clone());
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(filters, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`Dense::dense`].
pub fn dense(x: Tensor<4>, filters: Arc<Filters>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::dense(x.into_dispatch(), filters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_the_general_convolutions() {
        let device = Device::flex().autodiff();
        let numbers = |name: &str, shape: [usize; 4]| uniform(1, name, shape.iter().product());
        for (images, [inputs, outputs], [height, width], kernel) in [
            (2, [5, 3], [8, 8], 3),
            (1, [3, 4], [7, 9], 5),
            (2, [2, 2], [1, 1], 3),
            (3, [64, 70], [14, 14], 3),
            (2, [200, 8], [40, 60], 3), // more than a block
        ] {
            let shape = [outputs, inputs, kernel, kernel];
            let filters: Vec<f32> = numbers("w", shape).iter().map(|w| w - 0.5).collect();
            let run = |special: bool| {
                let x = [images, inputs, height, width];
                let x = Tensor::<4>::from_data(TensorData::new(numbers("x", x), x), &device).require_grad();
                let y = if special {
                    dense(x.clone(), Arc::new(Filters::new(filters.clone(), [outputs, inputs], kernel)))
                } else {
                    let weight = Tensor::<4>::from_data(TensorData::new(filters.clone(), shape), &device);
                    conv2d(x.clone(), weight, None, ConvOptions::new([1; 2], [kernel / 2; 2], [1; 2], 1))
                };
                let seed = Tensor::<4>::from_data(TensorData::new(numbers("g", y.dims()), y.dims()), &device);
                let gradients = (y.clone() * seed).sum().backward();
                (y.into_data(), x.grad(&gradients).unwrap().into_data())
            };
            let ((y, gradient), (expected_y, expected)) = (run(true), run(false));
            y.assert_approx_eq::<f32>(&expected_y, Tolerance::rel_abs(1e-4, 1e-4));
            gradient.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 1e-4));
        }
    }

    #[test]
    fn bits_depend_neither_on_threads_nor_on_neighbours() {
        let numbers = |name: &str, shape: [usize; 4]| uniform(1, name, shape.iter().product());
        for (channels, side) in [(64, 16), (128, 28), (64, 10)] {
            let filters = Arc::new(Filters::new(numbers("w", [channels, channels, 3, 3]), [channels; 2], 3));
            let x = Tensor::<4>::from_data(
                TensorData::new(numbers("x", [3, channels, side, side]), [3, channels, side, side]),
                &Device::flex(),
            );
            let run = |x: Tensor<4>| dense(x, filters.clone()).into_data().iter::<f32>().collect::<Vec<_>>();
            let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let expected = pool(1).install(|| run(x.clone()));
            assert!(pool(3).install(|| run(x.clone())) == expected, "{channels} channels: three threads");
            let last = pool(2).install(|| run(x.narrow(0, 2, 1)));
            assert!(last == expected[expected.len() / 3 * 2..], "{channels} channels: the last image alone");
        }
    }
}
