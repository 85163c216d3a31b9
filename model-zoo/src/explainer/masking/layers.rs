//! What a decoder is made of: convolutions, stages and their bottlenecks, with trainable weights.

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{StageShape, Upsampling};
use crate::backbone::layers::pointwise;
use crate::bilinear::resize;
use crate::explainer::tame::BatchNorm;

/// A tensor's PyTorch name, shape and values in row-major order.
pub(super) type Named = (String, Vec<usize>, Vec<f32>);

/// Where a new model's tensors come from.
pub(super) struct Source<'a> {
    /// Values by name and shape, row-major.
    pub values: &'a dyn Fn(&str, &[usize]) -> Vec<f32>,
    pub device: &'a Device,
}

impl Source<'_> {
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new((self.values)(name, &shape), shape), self.device)
    }

    fn convolution(&self, name: &str, [output, input, kernel]: [usize; 3], bias: bool) -> Convolution {
        Convolution {
            weight: Param::from_tensor(self.tensor(&format!("{name}.weight"), [output, input, kernel, kernel])),
            bias: bias.then(|| Param::from_tensor(self.tensor(&format!("{name}.bias"), [output]))),
        }
    }

    fn norm(&self, name: &str, channels: usize) -> BatchNorm {
        let part = |part: &str| self.tensor(&format!("{name}.{part}"), [channels]);
        BatchNorm::new(part("weight"), part("bias"), part("running_mean"), part("running_var"))
    }
}

/// A convolution of stride 1 that keeps the side.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[O,C,k,k]`, k odd.
    pub weight: Param<Tensor<4>>,
    /// `[O]`; none where a normalisation follows.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Convolution {
    /// The decoder's last: 1x1, with a bias.
    pub(super) fn output(source: &Source<'_>, output: usize, input: usize) -> Self {
        source.convolution("output", [output, input, 1], true)
    }

    /// `[B,C,H,W]` to `[B,O,H,W]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.as_ref().map(|bias| bias.val()));
        let [_, _, kernel, _] = weight.dims();
        match kernel {
            1 => pointwise(x, weight, bias),
            _ => conv2d(x, weight, bias, ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], 1)),
        }
    }

    pub(super) fn collect(&self, name: &str, all: &mut Vec<Named>) {
        push(format!("{name}.weight"), self.weight.val().into_data(), all);
        if let Some(bias) = &self.bias {
            push(format!("{name}.bias"), bias.val().into_data(), all);
        }
    }
}

/// Appends one tensor.
pub(super) fn push(name: String, data: TensorData, all: &mut Vec<Named>) {
    all.push((name, data.shape().to_vec(), data.iter::<f32>().collect()));
}

fn collect_norm(norm: &BatchNorm, name: &str, all: &mut Vec<Named>) {
    for part in ["weight", "bias", "running_mean", "running_var"] {
        push(format!("{name}.{part}"), norm.part(part), all);
    }
}

/// One step up: the map from below at twice its side, the encoder's own map of that side beside it, reduced to the
/// stage's width by a 1x1 convolution, normalised, rectified, and through one residual bottleneck.
#[derive(Module, Debug)]
pub struct Stage {
    /// 1x1, before the upsampling.
    pub up: Convolution,
    /// 1x1 over the upsampled map and the encoder's, in this order.
    pub reduce: Convolution,
    /// Behind `reduce`.
    pub bn: BatchNorm,
    /// The last part.
    pub block: Bottleneck,
    #[module(skip)]
    upsampling: Upsampling,
}

impl Stage {
    pub(super) fn new(source: &Source<'_>, index: usize, shape: StageShape, upsampling: Upsampling) -> Self {
        let StageShape { input, skip, width, upsampled, narrow } = shape;
        let name = format!("stages.{index}");
        Self {
            up: source.convolution(&format!("{name}.up"), [upsampled, input, 1], true),
            reduce: source.convolution(&format!("{name}.reduce"), [width, width + skip, 1], false),
            bn: source.norm(&format!("{name}.bn"), width),
            block: Bottleneck::new(source, &format!("{name}.block"), width, narrow),
            upsampling,
        }
    }

    /// What the encoder's map `[B,skip,H,W]` adds before the normalisation, `[B,width,H,W]`.
    ///
    /// A convolution of two maps side by side is the sum of a convolution of each: this half depends on the image alone
    /// and is computed once, for any number of classes.
    pub(super) fn beside(&self, skip: &Tensor<4>) -> Tensor<4> {
        let (width, channels) = (self.width(), skip.dims()[1]);
        pointwise(skip.clone(), self.reduce.weight.val().narrow(1, width, channels), None)
    }

    /// The convolution before the upsampling without its bias: `[B,input,h,w]` to `[B,upsampled,h,w]`.
    pub(super) fn project(&self, x: Tensor<4>) -> Tensor<4> {
        pointwise(x, self.up.weight.val(), None)
    }

    /// From a projected map `[P,upsampled,h,w]` and the encoder's part `[P,width,H,W]` to the stage's `[P,width,H,W]`.
    pub(super) fn forward(&self, projected: Tensor<4>, beside: Tensor<4>) -> Tensor<4> {
        let [_, upsampled, ..] = projected.dims();
        let projected = match &self.up.bias {
            Some(bias) => projected + bias.val().reshape([1, upsampled, 1, 1]),
            None => projected,
        };
        let [_, _, height, width] = beside.dims();
        let up = match self.upsampling {
            Upsampling::SubPixel => sub_pixel(projected),
            Upsampling::Bilinear => resize(projected, [height, width]),
        };
        let own = pointwise(up, self.reduce.weight.val().narrow(1, 0, self.width()), None);
        self.block.forward(relu(self.bn.forward(own + beside)))
    }

    fn width(&self) -> usize {
        self.reduce.weight.val().dims()[0]
    }

    pub(super) fn collect(&self, index: usize, all: &mut Vec<Named>) {
        let name = format!("stages.{index}");
        self.up.collect(&format!("{name}.up"), all);
        self.reduce.collect(&format!("{name}.reduce"), all);
        collect_norm(&self.bn, &format!("{name}.bn"), all);
        self.block.collect(&format!("{name}.block"), all);
    }
}

/// A residual bottleneck (He et al., 2016): 1x1, 3x3 and 1x1 convolutions, each normalised, added to the input.
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// 1x1 to a quarter of the channels.
    pub conv1: Convolution,
    /// Behind `conv1`.
    pub bn1: BatchNorm,
    /// 3x3.
    pub conv2: Convolution,
    /// Behind `conv2`.
    pub bn2: BatchNorm,
    /// 1x1 back to all channels.
    pub conv3: Convolution,
    /// Behind `conv3`.
    pub bn3: BatchNorm,
}

impl Bottleneck {
    fn new(source: &Source<'_>, name: &str, width: usize, narrow: usize) -> Self {
        let conv = |i: usize, shape: [usize; 3]| source.convolution(&format!("{name}.conv{i}"), shape, false);
        let norm = |i: usize, channels: usize| source.norm(&format!("{name}.bn{i}"), channels);
        Self {
            conv1: conv(1, [narrow, width, 1]),
            bn1: norm(1, narrow),
            conv2: conv(2, [narrow, narrow, 3]),
            bn2: norm(2, narrow),
            conv3: conv(3, [width, narrow, 1]),
            bn3: norm(3, width),
        }
    }

    /// `[B,C,H,W]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = relu(self.bn2.forward(self.conv2.forward(y)));
        relu(self.bn3.forward(self.conv3.forward(y)) + x)
    }

    fn collect(&self, name: &str, all: &mut Vec<Named>) {
        let parts = [(&self.conv1, &self.bn1), (&self.conv2, &self.bn2), (&self.conv3, &self.bn3)];
        for (i, (conv, norm)) in parts.into_iter().enumerate() {
            conv.collect(&format!("{name}.conv{}", i + 1), all);
            collect_norm(norm, &format!("{name}.bn{}", i + 1), all);
        }
    }
}

/// Each group of four channels becomes a cell of 2x2: `[B,4C,h,w]` to `[B,C,2h,2w]` (PyTorch's `pixel_shuffle`).
fn sub_pixel(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let cells = x.reshape([batch, channels / 4, 2, 2, height, width]);
    cells.permute([0, 1, 4, 2, 5, 3]).reshape([batch, channels / 4, 2 * height, 2 * width])
}

/// The rows of `x` for these images; all of them as they are where `images` is none.
pub(super) fn rows(x: &Tensor<4>, images: Option<&Tensor<1, Int>>) -> Tensor<4> {
    match images {
        Some(images) => x.clone().select(0, images.clone()),
        None => x.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_channels_make_a_cell() {
        // Channel c of 8 at the only place has value c: two channels of one 2x2 cell each.
        let x = Tensor::<1, Int>::arange(0..8, &Device::default()).float().reshape([1, 8, 1, 1]);
        let y = sub_pixel(x);
        assert_eq!(y.dims(), [1, 2, 2, 2]);
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        // Two places beside each other: rows of the result interleave them.
        let x = Tensor::<1, Int>::arange(0..8, &Device::default()).float().reshape([1, 4, 1, 2]);
        let found = sub_pixel(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(found, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }
}
