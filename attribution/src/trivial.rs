//! Trivial maps that ignore the classifier, the image, or both: the floor that every explainer has to beat. They make no
//! pass.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::maps::min_max;

use crate::method::Built;
use crate::tensors::{RandomStream, from_values, values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

const fn info(name: &'static str, title: &'static str) -> MethodInfo {
    let (family, access) = (Family::Trivial, Access::Nothing);
    MethodInfo { name, title, family, paper: "", access, passes: "none", parameter: None }
}

pub(crate) const RANDOM: MethodInfo = info("random", "random map");
pub(crate) const CENTRE_GAUSSIAN: MethodInfo = info("centre-gaussian", "centre Gaussian");
pub(crate) const EDGES: MethodInfo = info("edges", "edges");
pub(crate) const UNIFORM: MethodInfo = info("uniform", "uniform map");

pub(crate) fn random(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(RandomMap { seed: context.seed }))
}

pub(crate) fn centre_gaussian(_: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(CentreGaussian))
}

pub(crate) fn edges(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(Edges { preprocessing: context.preprocessing.clone() }))
}

pub(crate) fn uniform(_: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(UniformMap))
}

/// A constant map of 1, `[B,1,H,W]`.
#[derive(Clone, Copy, Debug)]
pub struct UniformMap;

impl AttributionMethod for UniformMap {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        // At full size: resizing a constant map would round some of its pixels below the others.
        Ok(Tensor::ones([batch, 1, height, width], &images.device()))
    }
}

/// A Gaussian about the centre, `[B,1,H,W]`, 1 at its maximum. Its standard deviation is a quarter of each side.
/// Photographers put the subject in the middle.
#[derive(Clone, Copy, Debug)]
pub struct CentreGaussian;

impl AttributionMethod for CentreGaussian {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        let gaussian = |i: usize, side: usize| {
            let (centre, deviation) = ((side as f32 - 1.0) / 2.0, side as f32 / 4.0);
            (-((i as f32 - centre) / deviation).powi(2) / 2.0).exp()
        };
        let map = (0..height * width).map(|i| gaussian(i / width, height) * gaussian(i % width, width)).collect();
        Ok(from_values(map, [1, 1, height, width], &images.device()).repeat_dim(0, batch))
    }
}

/// Every pixel from U(0,1), `[B,1,H,W]`: a pure function of the seed and the image, whatever batch it is in.
#[derive(Clone, Copy, Debug)]
pub struct RandomMap {
    /// Seed of the map.
    pub seed: u64,
}

impl AttributionMethod for RandomMap {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let [batch, channels, height, width] = images.dims();
        let pixels = values(images.clone());
        let map = |image: &[f32]| {
            let bits: Vec<u64> = image.iter().map(|value| u64::from(value.to_bits())).collect();
            let mut stream = RandomStream::new(self.seed, "random map", &bits);
            (0..height * width).map(|_| stream.unit() as f32).collect::<Vec<f32>>()
        };
        let maps = pixels.chunks((channels * height * width).max(1)).flat_map(map).collect();
        Ok(from_values(maps, [batch, 1, height, width], &images.device()))
    }
}

/// Edge strength, `[B,1,H,W]` in 0..=1: the magnitude of the Sobel gradient of the image's luma (ITU-R BT.601). Pixels at the
/// border are repeated beyond it.
#[derive(Clone, Debug)]
pub struct Edges {
    /// Preprocessing of the images: its standard deviations undo their normalisation.
    pub preprocessing: Preprocessing,
}

impl AttributionMethod for Edges {
    fn maps(&self, _: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        let device = images.device();
        // The mean of the normalisation is a constant offset, which the gradient removes.
        let weights = [0.299, 0.587, 0.114];
        let weights = weights.iter().zip(self.preprocessing.std).map(|(weight, std)| weight * std).collect();
        let luma = (images.clone() * from_values(weights, [1, 3, 1, 1], &device)).sum_dim(1);
        let padded = replicate_edge(luma);
        let sobel = |kernel: [f32; 9]| {
            let kernel = from_values(kernel.to_vec(), [1, 1, 3, 3], &device);
            conv2d(padded.clone(), kernel, None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1)).powi_scalar(2)
        };
        let horizontal = sobel([-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0]);
        let vertical = sobel([-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0]);
        Ok(min_max((horizontal + vertical).sqrt()))
    }
}

/// `[B,C,H,W]` with its outermost pixels repeated once: `[B,C,H+2,W+2]`.
fn replicate_edge(x: Tensor<4>) -> Tensor<4> {
    let pad = |x: Tensor<4>, dim: usize| {
        let last = x.dims()[dim].saturating_sub(1);
        let (first, end) = (x.clone().narrow(dim, 0, 1), x.clone().narrow(dim, last, 1));
        Tensor::cat(vec![first, x, end], dim)
    };
    pad(pad(x, 2), 3)
}
