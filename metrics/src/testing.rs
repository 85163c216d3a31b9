//! Classifiers and explainers whose outputs can be worked out by hand.

use burn::tensor::{Device, Tensor, TensorData};
use explainer_zoo::backbone::{Backbone, ClosureBackbone};
use explainer_zoo::image::{Filter, Preprocessing};

use crate::{ExplainFn, ImageBatch, MetricError, ModelState};

/// Preprocessing that leaves the values as they are: mean 0, standard deviation 1.
pub fn plain() -> Preprocessing {
    Preprocessing { resize: 2, crop: 2, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
}

/// A grey image `[1,3,H,W]`.
pub fn image(values: &[f32], size: [usize; 2]) -> Tensor<4> {
    map(values, size).repeat_dim(1, 3)
}

/// A map `[1,1,H,W]`.
pub fn map(values: &[f32], [height, width]: [usize; 2]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, height, width]), &Device::default())
}

/// A batch of images with target class 0.
pub fn batch(backbone: &ClosureBackbone, images: Tensor<4>) -> ImageBatch<'_> {
    let logits = backbone.forward(images.clone(), &[]).logits;
    let classes = vec![0; images.dims()[0]];
    ImageBatch::new(backbone, &backbone.spec().preprocessing, images, logits, classes).unwrap()
}

/// A classifier of brightness: its logits are ln(m) - ln(1 - m) of the mean m of the image's values, and 0. The softmax
/// score of class 0 is m, for m in 0..1.
pub fn brightness() -> ClosureBackbone {
    ClosureBackbone::new("brightness", 2, 2, |images| log_odds(mean(images)))
}

/// [`brightness`] of the squares of the values: a blur lowers the mean.
pub fn brightness_of_squares() -> ClosureBackbone {
    ClosureBackbone::new("squares", 2, 2, |images| log_odds(mean(images.powi_scalar(2))))
}

/// A classifier that is certain of class 1: the score of class 0 underflows to 0.
pub fn certain() -> ClosureBackbone {
    ClosureBackbone::new("certain", 2, 2, |images| {
        let zeros = mean(images).mul_scalar(0.0);
        Tensor::cat(vec![zeros.clone().sub_scalar(200.0), zeros], 1)
    })
}

fn mean(images: Tensor<4>) -> Tensor<2> {
    let [batch, ..] = images.dims();
    images.mean_dim(3).mean_dim(2).mean_dim(1).reshape([batch, 1])
}

fn log_odds(mean: Tensor<2>) -> Tensor<2> {
    let ln = |share: Tensor<2>| share.clamp(1e-6, 1.0 - 1e-6).log();
    let odds = ln(mean.clone()) - ln(mean.neg().add_scalar(1.0));
    Tensor::cat(vec![odds.clone(), odds.zeros_like()], 1)
}

/// An explainer that is a closure from an image `[1,3,H,W]`, a target class and the model's state to a map `[1,1,h,w]`.
pub struct ClosureExplainer<F> {
    stages: usize,
    map: F,
}

/// An explainer that is a closure, with `stages` stages of the randomisation.
pub fn explainer<F: Fn(Tensor<4>, usize, ModelState) -> Tensor<4>>(stages: usize, map: F) -> ClosureExplainer<F> {
    ClosureExplainer { stages, map }
}

impl<F> std::fmt::Debug for ClosureExplainer<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClosureExplainer").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl<F: Fn(Tensor<4>, usize, ModelState) -> Tensor<4>> ExplainFn for ClosureExplainer<F> {
    fn explain(&self, images: Tensor<4>, classes: &[usize], model: ModelState) -> Result<Tensor<4>, MetricError> {
        let map = |(image, class): (usize, &usize)| (self.map)(images.clone().narrow(0, image, 1), *class, model);
        Ok(Tensor::cat(classes.iter().enumerate().map(map).collect(), 0))
    }

    fn stages(&self) -> usize {
        self.stages
    }
}

/// A constant map of the image's size.
pub fn constant(image: Tensor<4>, value: f32) -> Tensor<4> {
    let [_, _, height, width] = image.dims();
    map(&vec![value; height * width], [height, width])
}
