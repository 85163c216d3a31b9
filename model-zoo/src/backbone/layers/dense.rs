//! A dense convolution as matrix products, whose gradient is products too.
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
use explainer_products::{Matrix, product, products_by_columns};
use rayon::prelude::*;

use super::depthwise::Steps;
use super::plain::{Plain, contiguous, tensor, values};
use crate::backbone::workers::split;

/// Inputs, f32, that are laid out at a time: about what the cache next to a core holds.
const BLOCK: usize = 1 << 18;

/// Frozen filters `[O,C,k,k]`, and those of the gradient, made when it is first asked for.
#[derive(Debug)]
pub struct Filters {
    /// `[1,O,C k k]`
    forward: Plain,
    /// `[1,C,O k k]`, each filter turned around, for convolutions that keep the planes' size.
    backward: OnceLock<Plain>,
    /// O and C.
    channels: [usize; 2],
    kernel: usize,
}

impl Filters {
    /// Of `weight` `[O,C,k,k]`, whose memory they share.
    pub fn new(weight: Plain) -> Self {
        let weight = contiguous(weight);
        let shape = weight.shape();
        let [outputs, inputs, kernel] = [shape[0], shape[1], shape[2]];
        let forward = Flex::float_reshape(weight, Shape::from(vec![1, outputs, inputs * kernel * kernel]));
        Self { forward, backward: OnceLock::new(), channels: [outputs, inputs], kernel }
    }

    fn columns(&self, input: [usize; 2], steps: Steps) -> Columns {
        let before = steps.padding.map(|(before, _)| before);
        Columns {
            input,
            output: steps.output(input, self.kernel),
            kernel: self.kernel,
            stride: steps.stride.max(1),
            before,
        }
    }

    /// x `[B,C,H,W]` to `[B,O,H',W']`.
    fn convolve(&self, x: Plain, steps: Steps) -> Plain {
        let [outputs, _] = self.channels;
        let columns = self.columns([x.shape()[2], x.shape()[3]], steps);
        multiply(columns, x, &self.forward, outputs)
    }

    /// The output's gradient `[B,O,H',W']` to that of inputs of the size `input`, `[B,C,H,W]`.
    fn pull_back(&self, gradient: Plain, input: [usize; 2], steps: Steps) -> Plain {
        let [outputs, inputs] = self.channels;
        let columns = self.columns(input, steps);
        if !columns.is_same() {
            return self.scatter(columns, gradient);
        }
        let shape = || Shape::from(vec![1, inputs, outputs * self.kernel * self.kernel]);
        let filters = self.backward.get_or_init(|| tensor(turned(values(&self.forward), self.channels), shape()));
        multiply(columns, gradient, filters, inputs)
    }

    /// The same where planes do not keep their size: what each tap gives back, added up.
    fn scatter(&self, columns: Columns, gradient: Plain) -> Plain {
        let gradient = contiguous(gradient);
        let ([height, width], [out_height, out_width]) = (columns.input, columns.output);
        let ([outputs, inputs], images) = (self.channels, gradient.shape()[0]);
        let shape = Shape::from(vec![images, inputs, height, width]);
        let mut x = vec![0.0; shape.num_elements()];
        let taps = self.forward.shape()[2];
        let filters = Matrix::new(values(&self.forward), [outputs, taps]).transposed();
        let blocks = blocks(images, out_height, taps * out_width);
        let given_back = |(image, rows): &(usize, Range<usize>)| {
            let count = rows.len() * out_width;
            let mut part = Vec::with_capacity(outputs * count);
            for channel in 0..outputs {
                let from = ((image * outputs + channel) * out_height + rows.start) * out_width;
                part.extend_from_slice(&values(&gradient)[from..][..count]);
            }
            product(filters, Matrix::new(&part, [outputs, count]))
        };
        let planes = x.len() / images.max(1);
        in_turn(&blocks, given_back, |(image, rows), values| {
            columns.add_to(values, rows.clone(), &mut x[image * planes..][..planes]);
        });
        tensor(x, shape)
    }
}

/// x `[B,I,H,W]`, laid out as `columns` say, times `filters` `[1,O,I k k]`: `[B,O,H',W']`.
fn multiply(columns: Columns, x: Plain, filters: &Plain, outputs: usize) -> Plain {
    let x = contiguous(x);
    let (images, taps, [height, width]) = (x.shape()[0], filters.shape()[2], columns.output);
    let planes = values(&x).len() / images.max(1);
    // Whole rows, so that no block has any of two images: what an image gives must not depend on its neighbours in the batch.
    let block = |image: usize, cells: Range<usize>| {
        columns.of(&values(&x)[image * planes..][..planes], cells.start / width..cells.end / width)
    };
    let filters = Matrix::new(values(filters), [outputs, taps]);
    let y = products_by_columns(images, filters, height * width, rows_of(taps * width) * width, block);
    tensor(y, Shape::from(vec![images, outputs, height, width]))
}

/// Rows of `row` values in a block of about [`BLOCK`].
fn rows_of(row: usize) -> usize {
    (BLOCK / row.max(1)).max(1)
}

/// Images and rows of them, `row` values to a row, in blocks of about [`BLOCK`] values of one image.
fn blocks(images: usize, height: usize, row: usize) -> Vec<(usize, Range<usize>)> {
    (0..images).flat_map(|image| split(0..height, rows_of(row)).map(move |rows| (image, rows))).collect()
}

/// Makes the products of all blocks, on all threads there are, and hands them on in the blocks' order.
fn in_turn<B: Sync>(blocks: &[B], product: impl Fn(&B) -> Vec<f32> + Sync + Send, mut then: impl FnMut(&B, &[f32])) {
    if rayon::current_num_threads() == 1 {
        blocks.iter().for_each(|block| then(block, &product(block)));
    } else {
        let products: Vec<_> = blocks.par_iter().map(product).collect();
        blocks.iter().zip(&products).for_each(|(block, product)| then(block, product));
    }
}

/// The operation, by backend, for f32. The filters are constants: they get no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Dense: Backend {
    /// x `[B,C,H,W]` to `[B,O,H',W']`.
    fn dense(x: FloatTensor<Self>, filters: Arc<Filters>, steps: Steps) -> FloatTensor<Self>;
}

impl Dense for Flex {
    fn dense(x: Plain, filters: Arc<Filters>, steps: Steps) -> Plain {
        filters.convolve(x, steps)
    }
}

impl<C: CheckpointStrategy> Dense for Autodiff<Flex, C> {
    fn dense(x: FloatTensor<Self>, filters: Arc<Filters>, steps: Steps) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = (Arc<Filters>, [usize; 2], Steps);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (filters, input, steps) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| filters.pull_back(gradient, input, steps));
            }
        }

        let (x, node) = x.into_parts();
        let input = [x.shape()[2], x.shape()[3]];
        let y = Flex::dense(x, filters.clone(), steps);
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((filters, input, steps), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`Dense::dense`].
pub fn dense(x: Tensor<4>, filters: Arc<Filters>, steps: Steps) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::dense(x.into_dispatch(), filters, steps))
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
        for (images, [inputs, outputs], [height, width], kernel, stride, padding) in [
            (2, [5, 3], [8, 8], 3, 1, [(1, 1); 2]),
            (1, [3, 4], [7, 9], 5, 1, [(2, 2); 2]),
            (2, [2, 2], [1, 1], 3, 1, [(1, 1); 2]),
            (3, [64, 70], [14, 14], 3, 1, [(1, 1); 2]),
            (2, [200, 8], [40, 60], 3, 1, [(1, 1); 2]), // more than a block
            (1, [8, 200], [40, 60], 3, 1, [(1, 1); 2]), // on the way back
            (2, [6, 5], [9, 12], 3, 2, [(1, 1); 2]),
            (1, [3, 8], [16, 14], 3, 2, [(0, 1); 2]),
            (2, [3, 4], [16, 15], 3, 2, [(0, 1), (1, 1)]),
            (2, [3, 8], [23, 20], 7, 2, [(3, 3); 2]),
            (2, [7, 5], [9, 6], 1, 2, [(0, 0); 2]),
            (1, [300, 4], [90, 80], 3, 2, [(1, 1); 2]), // more than a block
        ] {
            let shape = [outputs, inputs, kernel, kernel];
            let filters: Vec<f32> = numbers("w", shape).iter().map(|w| w - 0.5).collect();
            let run = |special: bool| {
                let x = [images, inputs, height, width];
                let x = Tensor::<4>::from_data(TensorData::new(numbers("x", x), x), &device).require_grad();
                let y = if special {
                    let filters = Arc::new(Filters::new(tensor(filters.clone(), Shape::from(shape.to_vec()))));
                    dense(x.clone(), filters, Steps { stride, padding })
                } else {
                    let weight = Tensor::<4>::from_data(TensorData::new(filters.clone(), shape), &device);
                    let options = ConvOptions::new_with_padding([stride; 2], padding, [1; 2], 1);
                    conv2d(x.clone(), weight, None, options)
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
        for (channels, side, stride) in [(64, 16, 1), (128, 28, 1), (64, 10, 1), (128, 28, 2)] {
            let shape = [channels, channels, 3, 3];
            let filters = Arc::new(Filters::new(tensor(numbers("w", shape), Shape::from(shape.to_vec()))));
            let x = Tensor::<4>::from_data(
                TensorData::new(numbers("x", [3, channels, side, side]), [3, channels, side, side]),
                &Device::flex(),
            );
            let steps = Steps { stride, padding: [(1, 1); 2] };
            // The output and the input's gradient, each image's together.
            let run = |x: Tensor<4>| {
                let x = Tensor::<4>::from_data(x.into_data(), &Device::flex().autodiff()).require_grad();
                let y = dense(x.clone(), filters.clone(), steps);
                let back = x.grad(&y.clone().powf_scalar(2.0).sum().backward()).unwrap();
                let numbers = |tensor: Tensor<4>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
                let images = (0..x.dims()[0]).map(|i| (y.clone().narrow(0, i, 1), back.clone().narrow(0, i, 1)));
                images.map(|(y, back)| (numbers(y), numbers(back))).collect::<Vec<_>>()
            };
            let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let expected = pool(1).install(|| run(x.clone()));
            assert!(pool(3).install(|| run(x.clone())) == expected, "{channels} channels: three threads");
            let last = pool(2).install(|| run(x.narrow(0, 2, 1)));
            assert!(last[..] == expected[2..], "{channels} channels: the last image alone");
        }
    }
}
