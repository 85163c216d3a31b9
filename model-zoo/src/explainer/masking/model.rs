//! The masking model: class selector and decoder.

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{Activation, MaskingModelConfig};
use super::layers::{Convolution, Source, Stage, push, rows};
use crate::backbone::layers::{global_average, pointwise};
use crate::head::{ClassSelection, ExplainerHead, ExplainerInput};
use crate::weights::random::uniform;

/// Keeps the logarithms of the ratio finite.
const EPSILON: f64 = 1e-5;
/// Masks that the decoder draws at a time outside training, which bounds its memory.
const CHUNK: usize = 16;

/// Class selector and decoder. The encoder, the explained classifier, is not part of it.
#[derive(Module, Debug)]
pub struct MaskingModel {
    /// None in a model without classes.
    pub selector: Option<Selector>,
    /// From the smallest scale to the largest.
    pub stages: Vec<Stage>,
    /// 1x1, to u and v, or u alone.
    pub output: Convolution,
    #[module(skip)]
    config: MaskingModelConfig,
}

/// An embedding of every class in the space of the smallest scale's features.
#[derive(Module, Debug)]
pub struct Selector {
    /// `[K,C]`
    pub weight: Param<Tensor<2>>,
}

impl MaskingModel {
    /// A fresh model from `seed`: convolutions as PyTorch initialises them, uniform in +-1/sqrt(fan in), and so the
    /// embeddings, which are K linear detectors on C features.
    pub fn new(config: MaskingModelConfig, seed: u64, device: &Device) -> Self {
        let fan_ins: std::collections::HashMap<String, usize> = config
            .tensors()
            .into_iter()
            .filter(|(_, shape)| shape.len() > 1)
            .filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?.into(), shape[1..].iter().product())))
            .collect();
        let init = |name: &str, shape: &[usize]| {
            let length = shape.iter().product();
            let (module, part) = name.rsplit_once('.').unwrap_or((name, ""));
            match (fan_ins.get(module), part) {
                (Some(fan_in), _) => {
                    let bound = 1.0 / ((*fan_in).max(1) as f32).sqrt();
                    uniform(seed, name, length).into_iter().map(|u| (u * 2.0 - 1.0) * bound).collect()
                }
                (None, "weight" | "running_var") => vec![1.0; length],
                (None, _) => vec![0.0; length],
            }
        };
        Self::from_values(config, init, device)
    }

    /// A model whose tensors, in row-major order, are `values(name, shape)`.
    pub fn from_values(
        config: MaskingModelConfig,
        values: impl Fn(&str, &[usize]) -> Vec<f32>,
        device: &Device,
    ) -> Self {
        let source = Source { values: &values, device };
        let plan = config.plan();
        let last = plan.last().map_or(0, |stage| stage.width);
        let stage = |(i, shape)| Stage::new(&source, i, shape, config.upsampling);
        Self {
            selector: config.class_selector.then(|| Selector {
                weight: Param::from_tensor(source.tensor("selector.weight", [config.classes, config.top()])),
            }),
            stages: plan.into_iter().enumerate().map(stage).collect(),
            output: Convolution::output(&source, config.activation.channels(), last),
            config,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &MaskingModelConfig {
        &self.config
    }

    /// Every tensor by PyTorch's name, in [`MaskingModelConfig::tensors`]' order: shape and values.
    pub fn values(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut all = Vec::new();
        if let Some(selector) = &self.selector {
            push("selector.weight".into(), selector.weight.val().into_data(), &mut all);
        }
        self.stages.iter().enumerate().for_each(|(i, stage)| stage.collect(i, &mut all));
        self.output.collect("output", &mut all);
        all
    }

    /// "Does the image show this class?": a logit `[B]` for each image and the class `[B]` beside it, the mean over all
    /// cells of <F_top, E_class>. `top` `[B,C,h,w]` is the smallest scale. Differentiable in the selector. Zeros in a
    /// model without one.
    pub fn presence(&self, top: Tensor<4>, class: Tensor<1, Int>) -> Tensor<1> {
        let [batch, ..] = top.dims();
        match &self.selector {
            Some(selector) => {
                let embedding = selector.weight.val().select(0, class);
                (global_average(top) * embedding).sum_dim(1).reshape([batch])
            }
            None => Tensor::zeros([batch], &top.device()),
        }
    }

    /// The gate of each pair of image and class in 0..1, `[B k,1,h,w]`, image by image. No gradient reaches the
    /// selector this way: it is trained by [`MaskingModel::presence`] alone.
    fn gates(selector: &Selector, top: &Tensor<4>, classes: &ClassSelection, confidence: f64) -> Tensor<4> {
        let [batch, channels, height, width] = top.dims();
        let embedding = selector.weight.val().without_autodiff();
        let scores = match classes {
            ClassSelection::Each(class) => {
                let own = embedding.select(0, class.clone()).reshape([batch, channels, 1, 1]);
                (top.clone() * own).sum_dim(1)
            }
            ClassSelection::Of(classes) => {
                let [count] = classes.dims();
                pointwise(top.clone(), embedding.select(0, classes.clone()).reshape([count, channels, 1, 1]), None)
            }
            ClassSelection::All => {
                let [count, _] = embedding.dims();
                pointwise(top.clone(), embedding.reshape([count, channels, 1, 1]), None)
            }
        };
        let [_, count, ..] = scores.dims();
        sigmoid(scores.sub_scalar(confidence)).reshape([batch * count, 1, height, width])
    }

    /// The decoder: the first stage's map `[P,upsampled,h,w]`, projected and gated, and what the encoder adds to each
    /// stage `[P,width,H,W]`, to raw maps `[P,1,H,W]`.
    fn decode(&self, first: Tensor<4>, beside: Vec<Tensor<4>>) -> Tensor<4> {
        let mut x = first;
        for (i, (stage, beside)) in self.stages.iter().zip(beside).enumerate() {
            let projected = if i == 0 { x } else { stage.project(x) };
            x = stage.forward(projected, beside);
        }
        let out = self.output.forward(x);
        match self.config.activation {
            Activation::Ratio => {
                let part = |i: usize| out.clone().narrow(1, i, 1).abs().add_scalar(EPSILON).log();
                part(0) - part(1)
            }
            Activation::Sigmoid => out.div_scalar(2.0),
        }
    }
}

impl ExplainerHead for MaskingModel {
    fn maps(&self, view: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4> {
        let [batch, ..] = view.images.dims();
        let count = match &classes {
            ClassSelection::All => self.config.classes,
            ClassSelection::Of(classes) => classes.dims()[0],
            ClassSelection::Each(_) => 1,
        };
        let [side, _] = self.config.map_size();
        let (Some(top), Some(first)) = (view.features.last(), self.stages.first()) else {
            return Tensor::zeros([batch, count, side, side], &view.images.device());
        };
        if batch * count == 0 {
            return Tensor::zeros([batch, count, side, side], &view.images.device());
        }
        let skips = view.features.iter().rev().skip(1);
        let beside: Vec<Tensor<4>> = self.stages.iter().zip(skips).map(|(stage, skip)| stage.beside(skip)).collect();
        let projected = first.project(top.clone());
        let gates = self.selector.as_ref().map(|selector| Self::gates(selector, top, &classes, self.config.confidence));
        let each = if gates.is_some() { count } else { 1 };
        let pairs = batch * each;
        // Batch normalisation takes its statistics in training over all masks, which is why they are not parted there.
        let chunk = if projected.device().is_autodiff() { pairs } else { CHUNK };
        let mut masks = Vec::new();
        for from in (0..pairs).step_by(chunk) {
            let length = chunk.min(pairs - from);
            let images = (each > 1 || length < pairs).then(|| {
                let images: Vec<i64> = (from..from + length).map(|pair| (pair / each) as i64).collect();
                Tensor::<1, Int>::from_data(TensorData::new(images, [length]), &view.images.device())
            });
            let own = |x: &Tensor<4>| rows(x, images.as_ref());
            let first = match &gates {
                Some(gates) => own(&projected) * gates.clone().narrow(0, from, length),
                None => own(&projected),
            };
            masks.push(self.decode(first, beside.iter().map(own).collect()));
        }
        let masks = Tensor::cat(masks, 0);
        match gates {
            Some(_) => masks.reshape([batch, count, side, side]),
            None => masks.repeat_dim(1, count),
        }
    }

    /// The mask itself: its values mean what they are, they are not stretched.
    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4> {
        sigmoid(raw)
    }
}
