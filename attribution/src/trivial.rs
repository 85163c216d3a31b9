//! Maps that know nothing of the classifier, or nothing of the image: what every explainer has to beat. No pass at all.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::tensors::{from_values, values};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::explainer::bee::Stream;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::maps::min_max;

/// The same value everywhere.
#[derive(Clone, Copy, Debug)]
pub struct UniformMap;

impl AttributionMethod for UniformMap {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        // At full size: resizing a constant map would round some of its pixels below the others.
        Ok(Tensor::ones([batch, 1, height, width], &images.device()))
    }
}

/// A Gaussian around the centre with a standard deviation of a quarter of each side, 1 at its top. Photographers put what
/// matters in the middle.
#[derive(Clone, Copy, Debug)]
pub struct CentreGaussian;

impl AttributionMethod for CentreGaussian {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        let bell = |i: usize, side: usize| {
            let (centre, spread) = ((side as f32 - 1.0) / 2.0, side as f32 / 4.0);
            (-((i as f32 - centre) / spread).powi(2) / 2.0).exp()
        };
        let map = (0..height * width).map(|i| bell(i / width, height) * bell(i % width, width)).collect();
        Ok(from_values(map, [1, 1, height, width], &images.device()).repeat_dim(0, batch))
    }
}

/// Every pixel's value from U(0,1): a pure function of the seed and the image, whatever batch it is in.
#[derive(Clone, Copy, Debug)]
pub struct RandomMap {
    /// Of the random numbers.
    pub seed: u64,
}

impl AttributionMethod for RandomMap {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, channels, height, width] = images.dims();
        let pixels = values(images.clone());
        let map = |image: &[f32]| {
            let bits: Vec<u64> = image.iter().map(|value| u64::from(value.to_bits())).collect();
            let mut stream = Stream::new(self.seed, "random map", &bits);
            (0..height * width).map(|_| stream.unit() as f32).collect::<Vec<f32>>()
        };
        let maps = pixels.chunks((channels * height * width).max(1)).flat_map(map).collect();
        Ok(from_values(maps, [batch, 1, height, width], &images.device()))
    }
}

/// The strength of edges: the length of Sobel's gradient of the image's brightness (ITU-R BT.601), its outermost
/// pixels repeated beyond the edge.
#[derive(Clone, Debug)]
pub struct Edges {
    /// How images were normalised, to see them as they were.
    pub preprocessing: Preprocessing,
}

impl AttributionMethod for Edges {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let device = images.device();
        // Brightness of the normalised image is off by a constant, which no gradient sees.
        let weights = [0.299, 0.587, 0.114];
        let weights = weights.iter().zip(self.preprocessing.std).map(|(weight, std)| weight * std).collect();
        let grey = (images.clone() * from_values(weights, [1, 3, 1, 1], &device)).sum_dim(1);
        let padded = replicate_edge(grey);
        let sobel = |kernel: [f32; 9]| {
            let kernel = from_values(kernel.to_vec(), [1, 1, 3, 3], &device);
            conv2d(padded.clone(), kernel, None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1)).powi_scalar(2)
        };
        let across = sobel([-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0]);
        let down = sobel([-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0]);
        Ok(min_max((across + down).sqrt()))
    }
}

/// `[B,C,H,W]` with its outermost pixels repeated once: `[B,C,H+2,W+2]`.
fn replicate_edge(x: Tensor<4>) -> Tensor<4> {
    let widen = |x: Tensor<4>, dim: usize| {
        let last = x.dims()[dim].saturating_sub(1);
        let (first, end) = (x.clone().narrow(dim, 0, 1), x.clone().narrow(dim, last, 1));
        Tensor::cat(vec![first, x, end], dim)
    };
    widen(widen(x, 2), 3)
}
