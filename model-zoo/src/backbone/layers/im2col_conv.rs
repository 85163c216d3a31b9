//! A dense (ungrouped) convolution by im2col and matrix products; its gradient is products and col2im.
//!
//! Burn's convolution converts images, filters and results between layouts in every call. With [`Im2col`] filters and planes
//! keep their layout.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use explainer_kernels::im2col::{Im2col, rotate_filters};
use explainer_products::{MatrixView, product, products_by_columns};
use rayon::prelude::*;

use super::flex::{FlexTensor, contiguous, tensor, values};
use super::geometry::ConvGeometry;
use crate::backbone::worker_pool::split;

/// Values of a block of im2col: they fit the L2 cache.
const BLOCK: usize = 1 << 18;

/// Frozen filters `[O,C,k,k]`, and those of the input gradient, which are made on first use.
#[derive(Debug)]
pub struct Filters {
    /// `[1,O,C k k]`
    forward: FlexTensor,
    /// `[1,C,O k k]`, each kernel rotated by 180 degrees, for convolutions with "same" padding.
    backward: OnceLock<FlexTensor>,
    /// O and C.
    channels: [usize; 2],
    kernel: usize,
}

impl Filters {
    /// Filters that share the memory of `weight` `[O,C,k,k]`.
    pub fn new(weight: FlexTensor) -> Self {
        let weight = contiguous(weight);
        let shape = weight.shape();
        let [outputs, inputs, kernel] = [shape[0], shape[1], shape[2]];
        let forward = Flex::float_reshape(weight, Shape::from(vec![1, outputs, inputs * kernel * kernel]));
        Self { forward, backward: OnceLock::new(), channels: [outputs, inputs], kernel }
    }

    fn im2col(&self, input: [usize; 2], geometry: ConvGeometry) -> Im2col {
        Im2col {
            input,
            output: geometry.output(input, self.kernel),
            kernel: self.kernel,
            stride: geometry.stride.max(1),
            padding: geometry.padding.map(|(before, _)| before),
        }
    }

    /// x `[B,C,H,W]` to `[B,O,H',W']`.
    fn convolve(&self, x: FlexTensor, geometry: ConvGeometry) -> FlexTensor {
        let [outputs, _] = self.channels;
        let im2col = self.im2col([x.shape()[2], x.shape()[3]], geometry);
        multiply(im2col, x, &self.forward, outputs)
    }

    /// The gradient with respect to inputs of size `input` (rows, columns), `[B,C,H,W]`, given that of the output
    /// `[B,O,H',W']`.
    fn input_gradient(&self, gradient: FlexTensor, input: [usize; 2], geometry: ConvGeometry) -> FlexTensor {
        let [outputs, inputs] = self.channels;
        let im2col = self.im2col(input, geometry);
        if !im2col.is_same() {
            return self.scatter(im2col, gradient);
        }
        let shape = || Shape::from(vec![1, inputs, outputs * self.kernel * self.kernel]);
        let filters =
            self.backward.get_or_init(|| tensor(rotate_filters(values(&self.forward), self.channels), shape()));
        multiply(im2col, gradient, filters, inputs)
    }

    /// The input gradient for any stride and padding: a product, then col2im.
    fn scatter(&self, im2col: Im2col, gradient: FlexTensor) -> FlexTensor {
        let gradient = contiguous(gradient);
        let ([height, width], [out_height, out_width]) = (im2col.input, im2col.output);
        let ([outputs, inputs], images) = (self.channels, gradient.shape()[0]);
        let shape = Shape::from(vec![images, inputs, height, width]);
        let mut x = vec![0.0; shape.num_elements()];
        let inner = self.forward.shape()[2];
        let filters = MatrixView::new(values(&self.forward), [outputs, inner]).transposed();
        let blocks = blocks(images, out_height, inner * out_width);
        let columns_of = |(image, rows): &(usize, Range<usize>)| {
            let count = rows.len() * out_width;
            let mut part = Vec::with_capacity(outputs * count);
            for channel in 0..outputs {
                let from = ((image * outputs + channel) * out_height + rows.start) * out_width;
                part.extend_from_slice(&values(&gradient)[from..][..count]);
            }
            product(filters, MatrixView::new(&part, [outputs, count]))
        };
        let planes = x.len() / images.max(1);
        in_order(&blocks, columns_of, |(image, rows), columns| {
            im2col.fold_add(columns, rows.clone(), &mut x[image * planes..][..planes]);
        });
        tensor(x, shape)
    }
}

/// `filters` `[1,O,I k k]` times im2col of x `[B,I,H,W]`: `[B,O,H',W']`.
fn multiply(im2col: Im2col, x: FlexTensor, filters: &FlexTensor, outputs: usize) -> FlexTensor {
    let x = contiguous(x);
    let (images, inner, [height, width]) = (x.shape()[0], filters.shape()[2], im2col.output);
    let planes = values(&x).len() / images.max(1);
    // Blocks are whole rows of one image: the output of an image must not depend on the others of its batch.
    let block = |image: usize, cells: Range<usize>| {
        im2col.unfold(&values(&x)[image * planes..][..planes], cells.start / width..cells.end / width)
    };
    let filters = MatrixView::new(values(filters), [outputs, inner]);
    let y = products_by_columns(images, filters, height * width, rows_of(inner * width) * width, block);
    tensor(y, Shape::from(vec![images, outputs, height, width]))
}

/// Rows of `row` values in a block of about [`BLOCK`] values.
fn rows_of(row: usize) -> usize {
    (BLOCK / row.max(1)).max(1)
}

/// Blocks of about [`BLOCK`] values: an image and a range of its rows of `row` values.
fn blocks(images: usize, height: usize, row: usize) -> Vec<(usize, Range<usize>)> {
    (0..images).flat_map(|image| split(0..height, rows_of(row)).map(move |rows| (image, rows))).collect()
}

/// Computes `product` of all blocks on all threads, and passes the results to `then` in the blocks' order.
fn in_order<B: Sync>(blocks: &[B], product: impl Fn(&B) -> Vec<f32> + Sync + Send, mut then: impl FnMut(&B, &[f32])) {
    if rayon::current_num_threads() == 1 {
        blocks.iter().for_each(|block| then(block, &product(block)));
    } else {
        let products: Vec<_> = blocks.par_iter().map(product).collect();
        blocks.iter().zip(&products).for_each(|(block, product)| then(block, product));
    }
}

/// The operation for f32, by backend. The filters are constants and get no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait Im2colConv: Backend {
    /// x `[B,C,H,W]` to `[B,O,H',W']`.
    fn im2col_conv(x: FloatTensor<Self>, filters: Arc<Filters>, geometry: ConvGeometry) -> FloatTensor<Self>;
}

impl Im2colConv for Flex {
    fn im2col_conv(x: FlexTensor, filters: Arc<Filters>, geometry: ConvGeometry) -> FlexTensor {
        filters.convolve(x, geometry)
    }
}

impl<C: CheckpointStrategy> Im2colConv for Autodiff<Flex, C> {
    fn im2col_conv(x: FloatTensor<Self>, filters: Arc<Filters>, geometry: ConvGeometry) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = (Arc<Filters>, [usize; 2], ConvGeometry);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (filters, input, geometry) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    filters.input_gradient(gradient, input, geometry)
                });
            }
        }

        let (x, node) = x.into_parts();
        let input = [x.shape()[2], x.shape()[3]];
        let y = Flex::im2col_conv(x, filters.clone(), geometry);
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((filters, input, geometry), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`Im2colConv::im2col_conv`].
pub fn im2col_conv(x: Tensor<4>, filters: Arc<Filters>, geometry: ConvGeometry) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::im2col_conv(x.into_dispatch(), filters, geometry))
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
        let numbers = |name: &str, shape: [usize; 4]| uniform(1, name, shape.iter().product());
        for (images, [inputs, outputs], [height, width], kernel, stride, padding) in [
            (2, [5, 3], [8, 8], 3, 1, [(1, 1); 2]),
            (1, [3, 4], [7, 9], 5, 1, [(2, 2); 2]),
            (2, [2, 2], [1, 1], 3, 1, [(1, 1); 2]),
            (3, [64, 70], [14, 14], 3, 1, [(1, 1); 2]),
            (2, [200, 8], [40, 60], 3, 1, [(1, 1); 2]), // more than a block
            (1, [8, 200], [40, 60], 3, 1, [(1, 1); 2]), // in the gradient
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
                    im2col_conv(x.clone(), filters, ConvGeometry { stride, padding })
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
    fn results_depend_neither_on_threads_nor_on_the_batch() {
        let numbers = |name: &str, shape: [usize; 4]| uniform(1, name, shape.iter().product());
        for (channels, side, stride) in [(64, 16, 1), (128, 28, 1), (64, 10, 1), (128, 28, 2)] {
            let shape = [channels, channels, 3, 3];
            let filters = Arc::new(Filters::new(tensor(numbers("w", shape), Shape::from(shape.to_vec()))));
            let x = Tensor::<4>::from_data(
                TensorData::new(numbers("x", [3, channels, side, side]), [3, channels, side, side]),
                &Device::flex(),
            );
            let geometry = ConvGeometry { stride, padding: [(1, 1); 2] };
            // Output and input gradient of each image.
            let run = |x: Tensor<4>| {
                let x = Tensor::<4>::from_data(x.into_data(), &Device::flex().autodiff()).require_grad();
                let y = im2col_conv(x.clone(), filters.clone(), geometry);
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
