//! MobileNetV3-small (Howard et al., 2019), torchvision's names.

use burn::tensor::{Tensor, activation};

use super::layers::{Activation, Conv2d, ConvSpec, Linear, global_average, hard_sigmoid};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::weights::WeightReader;

const EPSILON: f64 = 1e-3;
const STEM: usize = 16;
const LAST: usize = 576;
const HIDDEN: usize = 1024;

/// Kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride.
struct Bottleneck(usize, usize, usize, bool, Activation, usize);
const BLOCKS: [Bottleneck; 11] = {
    use Activation::{HardSwish as HS, Relu as RE};
    [
        Bottleneck(3, 16, 16, true, RE, 2),
        Bottleneck(3, 72, 24, false, RE, 2),
        Bottleneck(3, 88, 24, false, RE, 1),
        Bottleneck(5, 96, 40, true, HS, 2),
        Bottleneck(5, 240, 40, true, HS, 1),
        Bottleneck(5, 240, 40, true, HS, 1),
        Bottleneck(5, 120, 48, true, HS, 1),
        Bottleneck(5, 144, 48, true, HS, 1),
        Bottleneck(5, 288, 96, true, HS, 2),
        Bottleneck(5, 576, 96, true, HS, 1),
        Bottleneck(5, 576, 96, true, HS, 1),
    ]
};

/// MobileNetV3-small, ImageNet-1k; the taps are P-TAME's.
pub fn mobilenet_v3_small() -> Architecture {
    let mut stride = 2;
    let mut taps = vec![TapSpec::map("features.0", STEM, stride)];
    for (i, block) in BLOCKS.iter().enumerate() {
        stride *= block.5;
        taps.push(TapSpec::map(format!("features.{}", i + 1), block.2, stride));
    }
    taps.push(TapSpec::map(format!("features.{}", BLOCKS.len() + 1), LAST, stride));
    Architecture {
        name: "mobilenet_v3_small",
        preprocessing: imagenet(),
        taps,
        default_taps: &["features.9", "features.10", "features.11", "features.12"],
        auxiliary_taps: None,
        alias: |_| None,
        head: "classifier.3.weight",
        build: Box::new(|reader| Box::new(MobileNet::read(reader))),
    }
}

#[derive(Debug)]
struct MobileNet {
    stem: Conv2d,
    blocks: Vec<Block>,
    last: Conv2d,
    classifier: [Linear; 2],
}

#[derive(Debug)]
struct Block {
    expand: Option<Conv2d>,
    depthwise: Conv2d,
    excite: Option<[Conv2d; 2]>,
    project: Conv2d,
    activation: Activation,
    residual: bool,
}

/// A convolution `{name}.0` and its normalisation `{name}.1`.
fn normalised(reader: &mut WeightReader, name: &str, spec: ConvSpec) -> Conv2d {
    Conv2d::read_normalised(reader, &format!("{name}.0"), &format!("{name}.1"), spec, EPSILON)
}

/// A quarter of the channels, rounded to a multiple of 8 that is at most a tenth below it.
fn squeezed(channels: usize) -> usize {
    let target = channels / 4;
    let rounded = ((target + 4) / 8 * 8).max(8);
    if rounded * 10 < target * 9 { rounded + 8 } else { rounded }
}

impl Block {
    fn read(reader: &mut WeightReader, name: &str, input: usize, layout: &Bottleneck) -> Self {
        let Bottleneck(kernel, width, output, excite, activation, stride) = *layout;
        let mut index = 0;
        let mut next = || {
            index += 1;
            format!("{name}.block.{}", index - 1)
        };
        let expand = (width != input).then(|| normalised(reader, &next(), ConvSpec::new(input, width, 1, 1)));
        let depthwise = normalised(reader, &next(), ConvSpec::depthwise(width, kernel, stride));
        let excite = excite.then(|| {
            let (stem, narrow) = (next(), squeezed(width));
            [
                Conv2d::read(reader, &format!("{stem}.fc1"), ConvSpec::new(width, narrow, 1, 1), true),
                Conv2d::read(reader, &format!("{stem}.fc2"), ConvSpec::new(narrow, width, 1, 1), true),
            ]
        });
        let project = normalised(reader, &next(), ConvSpec::new(width, output, 1, 1));
        Self { expand, depthwise, excite, project, activation, residual: stride == 1 && input == output }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = self.residual.then(|| x.clone());
        let mut y = x;
        for conv in self.expand.iter().chain([&self.depthwise]) {
            y = conv.activated(y, self.activation);
        }
        if let Some([squeeze, excite]) = &self.excite {
            let [batch, channels, _, _] = y.dims();
            let pooled = global_average(y.clone()).reshape([batch, channels, 1, 1]);
            y = y * hard_sigmoid(excite.forward(activation::relu(squeeze.forward(pooled))));
        }
        let y = self.project.forward(y);
        match shortcut {
            Some(x) => x + y,
            None => y,
        }
    }
}

impl MobileNet {
    fn read(reader: &mut WeightReader) -> Self {
        let stem = normalised(reader, "features.0", ConvSpec::new(3, STEM, 3, 2));
        let (mut blocks, mut input) = (Vec::new(), STEM);
        for (i, layout) in BLOCKS.iter().enumerate() {
            blocks.push(Block::read(reader, &format!("features.{}", i + 1), input, layout));
            input = layout.2;
        }
        let last = normalised(reader, &format!("features.{}", BLOCKS.len() + 1), ConvSpec::new(input, LAST, 1, 1));
        let classes = reader.rows("classifier.3.weight", 1000);
        let classifier =
            [Linear::read(reader, "classifier.0", LAST, HIDDEN), Linear::read(reader, "classifier.3", HIDDEN, classes)];
        Self { stem, blocks, last, classifier }
    }
}

impl Network for MobileNet {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let mut x = hook.map("features.0", self.stem.activated(images, Activation::HardSwish));
        for (i, block) in self.blocks.iter().enumerate() {
            x = hook.map(&format!("features.{}", i + 1), block.forward(x));
        }
        let x = self.last.activated(x, Activation::HardSwish);
        let x = hook.map(&format!("features.{}", self.blocks.len() + 1), x);
        let [hidden, last] = &self.classifier;
        let y = hidden.forward(global_average(x));
        last.forward(y.clone() * hard_sigmoid(y))
    }
}
