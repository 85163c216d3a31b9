//! Classifiers whose answers can be worked out by hand.

use burn::tensor::{Device, Tensor, TensorData};
use explainer_zoo::backbone::{Backbone, BackboneOutput, BackboneSpec, Cotangent, Tap, TapId, Vjp};
use explainer_zoo::image::{Filter, Preprocessing};

use super::{ExplainFn, ImageBatch, MetricError, ModelState};

/// Images as they are: mean 0, standard deviation 1.
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

/// Images under measurement, explained for class 0.
pub fn subject(backbone: &Brightness, images: Tensor<4>) -> ImageBatch<'_> {
    let logits = backbone.forward(images.clone(), &[]).logits;
    let classes = vec![0; images.dims()[0]];
    ImageBatch::new(backbone, &backbone.spec.preprocessing, images, logits, classes).unwrap()
}

/// A classifier of brightness: its logits are ln(m) - ln(1 - m) of the mean m of the normalised image's values, or of
/// their squares, and 0. The softmax score of class 0 is m, for m in 0..1.
#[derive(Debug)]
pub struct Brightness {
    spec: BackboneSpec,
    power: i32,
}

impl Brightness {
    /// Of the values, images as they are.
    pub fn new() -> Self {
        let spec = BackboneSpec {
            name: "brightness".into(),
            preprocessing: plain(),
            classes: 2,
            taps: Vec::new(),
            default_taps: Vec::new(),
            auxiliary_taps: Vec::new(),
            weights_sha256: None,
        };
        Self { spec, power: 1 }
    }

    /// Of their squares: a blur takes from it.
    pub fn squared() -> Self {
        Self { power: 2, ..Self::new() }
    }
}

impl Backbone for Brightness {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, images: Tensor<4>, _: &[TapId]) -> BackboneOutput {
        let [batch, ..] = images.dims();
        let powers = images.powi_scalar(self.power);
        let mean: Tensor<2> = powers.mean_dim(3).mean_dim(2).mean_dim(1).reshape([batch, 1]);
        let ln = |share: Tensor<2>| share.clamp(1e-6, 1.0 - 1e-6).log();
        let odds = ln(mean.clone()) - ln(mean.neg().add_scalar(1.0));
        BackboneOutput { logits: Tensor::cat(vec![odds.clone(), odds.zeros_like()], 1), taps: Vec::new() }
    }

    fn vjp(&self, _: Tensor<4>, _: Cotangent<'_>) -> Vjp {
        panic!("metrics ask for no gradient")
    }

    fn vjp_at(&self, _: Tensor<4>, _: TapId, _: Tap, _: Cotangent<'_>) -> Vjp {
        panic!("metrics ask for no gradient")
    }
}

/// An explainer that is a function of an image `[1,3,H,W]`, a class and what it looks at, to a map `[1,1,h,w]`.
pub struct Drawn<F> {
    stages: usize,
    draw: F,
}

/// An explainer that is a function, and that knows so many stages of the randomisation.
pub fn drawn<F: Fn(Tensor<4>, usize, ModelState) -> Tensor<4>>(stages: usize, draw: F) -> Drawn<F> {
    Drawn { stages, draw }
}

impl<F> std::fmt::Debug for Drawn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drawn").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl<F: Fn(Tensor<4>, usize, ModelState) -> Tensor<4>> ExplainFn for Drawn<F> {
    fn explain(&self, images: Tensor<4>, classes: &[usize], sight: ModelState) -> Result<Tensor<4>, MetricError> {
        let draw = |(image, class): (usize, &usize)| (self.draw)(images.clone().narrow(0, image, 1), *class, sight);
        Ok(Tensor::cat(classes.iter().enumerate().map(draw).collect(), 0))
    }

    fn stages(&self) -> usize {
        self.stages
    }
}

/// The map of an image that has one value everywhere.
pub fn shade(image: Tensor<4>, value: f32) -> Tensor<4> {
    let [_, _, height, width] = image.dims();
    map(&vec![value; height * width], [height, width])
}
