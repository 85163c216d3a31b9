//! Convolutions of a frozen network, batch normalisation folded in.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::dense::{Filters, dense};
use super::depthwise::{Steps, depthwise};
use super::plain::plain;
use super::pointwise::pointwise;
use super::rectify::rectify;
use super::shift::shift;
use super::{Activation, has_own_gradients};
use crate::weights::WeightReader;

/// Channels times cells of an output plane from which on a matrix product is filled and Burn's convolution is the slower one.
const MANY: usize = 25_000;

/// How a convolution pads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many zeros on every side.
    Each(usize),
    /// TensorFlow's `SAME`: output side = ceil(input side / stride), the odd zero at the end.
    Same,
}

/// The shape of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Groups; equal to `input` for a depthwise convolution.
    pub groups: usize,
}

impl ConvSpec {
    /// A dense convolution that keeps the side at stride 1 (odd kernels).
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize) -> Self {
        Self { input, output, kernel, stride, padding: Padding::Each(kernel / 2), groups: 1 }
    }

    /// One filter a channel.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { groups: channels, ..Self::new(channels, channels, kernel, stride) }
    }

    /// The same with TensorFlow's padding.
    pub fn same(self) -> Self {
        Self { padding: Padding::Same, ..self }
    }
}

/// A convolution `[B,input,H,W]` to `[B,output,H',W']` with frozen weights.
#[derive(Clone, Debug)]
pub struct Conv2d {
    spec: ConvSpec,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    /// The weight's memory as [`Filters`], if it is dense and in f32 on the CPU.
    filters: Option<Arc<Filters>>,
}

impl Conv2d {
    /// Reads `{name}.weight` and, if `bias`, `{name}.bias`.
    pub fn read(reader: &mut WeightReader, name: &str, spec: ConvSpec, bias: bool) -> Self {
        let weight = reader.values(&format!("{name}.weight"), &Self::weight_shape(spec));
        let bias = bias.then(|| reader.tensor(&format!("{name}.bias"), [spec.output]));
        Self::new(reader, spec, weight, bias)
    }

    /// Reads `{name}.weight` and folds the batch normalisation `{norm}.*` that follows it into weight and bias:
    /// with running statistics it is a scale and a shift of each output channel.
    pub fn read_normalised(reader: &mut WeightReader, name: &str, norm: &str, spec: ConvSpec, epsilon: f64) -> Self {
        let shape = Self::weight_shape(spec);
        let mut weight = reader.values(&format!("{name}.weight"), &shape);
        let mut channel = |part: &str| reader.values(&format!("{norm}.{part}"), &[spec.output]);
        let (gamma, beta) = (channel("weight"), channel("bias"));
        let (mean, variance) = (channel("running_mean"), channel("running_var"));
        let mut bias = Vec::with_capacity(spec.output);
        for (o, filter) in weight.chunks_mut(shape[1..].iter().product()).enumerate() {
            // f64: the fold must not cost accuracy that the unfolded network has.
            let scale = f64::from(gamma[o]) / (f64::from(variance[o]) + epsilon).sqrt();
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            bias.push((f64::from(beta[o]) - f64::from(mean[o]) * scale) as f32);
        }
        let bias = Some(reader.place(bias, [spec.output]));
        Self::new(reader, spec, weight, bias)
    }

    fn new(reader: &WeightReader, spec: ConvSpec, weight: Vec<f32>, bias: Option<Tensor<1>>) -> Self {
        let weight: Tensor<4> = reader.place(weight, Self::weight_shape(spec));
        let suits = spec.groups == 1 && (spec.kernel > 1 || spec.stride > 1);
        let own = suits.then(|| plain(&weight)).flatten();
        Self { spec, weight, bias, filters: own.map(|own| Arc::new(Filters::new(own))) }
    }

    fn weight_shape(spec: ConvSpec) -> [usize; 4] {
        [spec.output, spec.input / spec.groups, spec.kernel, spec.kernel]
    }

    /// `[B,input,H,W]` to `[B,output,H',W']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(bias) if has_own_gradients(&x) => shift(self.convolution(x, None), bias.clone(), 1),
            bias => self.convolution(x, bias.clone()),
        }
    }

    /// The convolution and the non-linearity behind it.
    pub fn activated(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let limit = match activation {
            Activation::Relu => f32::INFINITY,
            Activation::Relu6 => 6.0,
            Activation::Identity | Activation::HardSwish => return activation.forward(self.forward(x)),
        };
        match &self.bias {
            Some(bias) if has_own_gradients(&x) => rectify(self.convolution(x, None), bias.clone(), limit),
            _ => activation.forward(self.forward(x)),
        }
    }

    fn convolution(&self, x: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
        let spec = self.spec;
        if spec.kernel == 1 && spec.stride == 1 && spec.groups == 1 {
            return pointwise(x, self.weight.clone(), bias);
        }
        let [_, _, height, width] = x.dims();
        let padding = match spec.padding {
            Padding::Each(zeros) => [(zeros, zeros); 2],
            Padding::Same => [height, width].map(|side| {
                let needed = (side.div_ceil(spec.stride) - 1) * spec.stride + spec.kernel;
                let total = needed.saturating_sub(side);
                (total / 2, total - total / 2)
            }),
        };
        let steps = Steps { stride: spec.stride, padding };
        let alone = bias.is_none() && has_own_gradients(&x);
        if alone && spec.groups == spec.input && spec.groups == spec.output {
            return depthwise(x, self.weight.clone(), steps);
        }
        let cells = height.div_ceil(spec.stride) * width.div_ceil(spec.stride);
        let many = spec.input.min(spec.output) * cells >= MANY;
        if let Some(filters) = self.filters.as_ref().filter(|_| alone && many) {
            return dense(x, filters.clone(), steps);
        }
        let options = ConvOptions::new_with_padding([spec.stride; 2], padding, [1, 1], spec.groups);
        conv2d(x, self.weight.clone(), bias, options)
    }
}
