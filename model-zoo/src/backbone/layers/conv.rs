//! Convolutions of a frozen network, with batch normalisation folded in.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::bias_add::bias_add;
use super::bias_relu::bias_relu;
use super::depthwise::depthwise;
use super::flex::to_flex;
use super::geometry::ConvGeometry;
use super::im2col_conv::{Filters, im2col_conv};
use super::pointwise::pointwise;
use super::{Activation, has_custom_ops};
use crate::weights::WeightReader;

/// Channels times positions of an output plane from which on im2col is faster than Burn's convolution.
const IM2COL_MIN: usize = 25_000;

/// Padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// This many zeros on every side.
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
    /// Stride.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Groups; equal to `input` for a depthwise convolution.
    pub groups: usize,
}

impl ConvSpec {
    /// An ungrouped convolution that keeps the side at stride 1 (odd kernels).
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize) -> Self {
        Self { input, output, kernel, stride, padding: Padding::Each(kernel / 2), groups: 1 }
    }

    /// A depthwise convolution: one filter for each channel.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { groups: channels, ..Self::new(channels, channels, kernel, stride) }
    }

    /// The same convolution with TensorFlow's padding.
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
    /// The same weight for [`im2col_conv`], if it is ungrouped and in f32 on the CPU.
    filters: Option<Arc<Filters>>,
}

impl Conv2d {
    /// Reads `{name}.weight` and, if `bias`, `{name}.bias`.
    pub fn read(reader: &mut WeightReader, name: &str, spec: ConvSpec, bias: bool) -> Self {
        let weight = reader.values(&format!("{name}.weight"), &Self::weight_shape(spec));
        let bias = bias.then(|| reader.tensor(&format!("{name}.bias"), [spec.output]));
        Self::new(reader, spec, weight, bias)
    }

    /// Reads `{name}.weight` and folds the batch normalisation `{norm}.*` that follows into weight and bias: with running
    /// statistics it is a scale and a shift of each output channel.
    pub fn read_normalised(reader: &mut WeightReader, name: &str, norm: &str, spec: ConvSpec, epsilon: f64) -> Self {
        let shape = Self::weight_shape(spec);
        let mut weight = reader.values(&format!("{name}.weight"), &shape);
        let mut channel = |part: &str| reader.values(&format!("{norm}.{part}"), &[spec.output]);
        let (gamma, beta) = (channel("weight"), channel("bias"));
        let (mean, variance) = (channel("running_mean"), channel("running_var"));
        let mut bias = Vec::with_capacity(spec.output);
        for (o, filter) in weight.chunks_mut(shape[1..].iter().product()).enumerate() {
            // In f64, so that folding costs no accuracy.
            let scale = f64::from(gamma[o]) / (f64::from(variance[o]) + epsilon).sqrt();
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            bias.push((f64::from(beta[o]) - f64::from(mean[o]) * scale) as f32);
        }
        let bias = Some(reader.place(bias, [spec.output]));
        Self::new(reader, spec, weight, bias)
    }

    fn new(reader: &WeightReader, spec: ConvSpec, weight: Vec<f32>, bias: Option<Tensor<1>>) -> Self {
        let weight: Tensor<4> = reader.place(weight, Self::weight_shape(spec));
        let suitable = spec.groups == 1 && (spec.kernel > 1 || spec.stride > 1);
        let own = suitable.then(|| to_flex(&weight)).flatten();
        Self { spec, weight, bias, filters: own.map(|own| Arc::new(Filters::new(own))) }
    }

    fn weight_shape(spec: ConvSpec) -> [usize; 4] {
        [spec.output, spec.input / spec.groups, spec.kernel, spec.kernel]
    }

    /// `[B,input,H,W]` to `[B,output,H',W']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(bias) if has_custom_ops(&x) => bias_add(self.convolution(x, None), bias.clone(), 1),
            bias => self.convolution(x, bias.clone()),
        }
    }

    /// The convolution and the activation after it.
    pub fn activated(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let limit = match activation {
            Activation::Relu => f32::INFINITY,
            Activation::Relu6 => 6.0,
            Activation::Identity | Activation::HardSwish => return activation.forward(self.forward(x)),
        };
        match &self.bias {
            Some(bias) if has_custom_ops(&x) => bias_relu(self.convolution(x, None), bias.clone(), limit),
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
        let geometry = ConvGeometry { stride: spec.stride, padding };
        let custom = bias.is_none() && has_custom_ops(&x);
        if custom && spec.groups == spec.input && spec.groups == spec.output {
            return depthwise(x, self.weight.clone(), geometry);
        }
        let positions = height.div_ceil(spec.stride) * width.div_ceil(spec.stride);
        let large = spec.input.min(spec.output) * positions >= IM2COL_MIN;
        if let Some(filters) = self.filters.as_ref().filter(|_| custom && large) {
            return im2col_conv(x, filters.clone(), geometry);
        }
        let options = ConvOptions::new_with_padding([spec.stride; 2], padding, [1, 1], spec.groups);
        conv2d(x, self.weight.clone(), bias, options)
    }
}
