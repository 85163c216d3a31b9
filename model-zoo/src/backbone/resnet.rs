//! ResNet-18 and ResNet-50 (He et al., 2016), torchvision's and timm's names; and the quickstart's small one.

use burn::tensor::Tensor;

use super::layers::{Activation, Conv2d, ConvSpec, Linear, PoolSpec, global_average, max_pool};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::image::Preprocessing;
use crate::weights::WeightReader;

const EPSILON: f64 = 1e-5;

/// The two kinds of residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1 with four times the channels at the end.
    Bottleneck,
}

impl Block {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The layout of a residual network.
#[derive(Clone, Copy, Debug)]
struct Layout {
    block: Block,
    /// Blocks of `layer1`, `layer2`, ...
    depths: &'static [usize],
    /// Channels of `layer1` before expansion; doubled at every layer.
    width: usize,
    stem: Stem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stem {
    /// 7x7 stride 2 and max-pooling: `layer1` keeps the side.
    ImageNet,
    /// 3x3 stride 2 to half the width, no pooling: `layer1` halves the side.
    Small,
}

const RESNET18: Layout = Layout { block: Block::Basic, depths: &[2, 2, 2, 2], width: 64, stem: Stem::ImageNet };
const RESNET50: Layout = Layout { block: Block::Bottleneck, depths: &[3, 4, 6, 3], width: 64, stem: Stem::ImageNet };
const SHAPES: Layout = Layout { block: Block::Basic, depths: &[1, 1, 1], width: 32, stem: Stem::Small };

/// ResNet-18, ImageNet-1k.
pub fn resnet18() -> Architecture {
    architecture("resnet18", RESNET18, imagenet(), &["layer1", "layer2", "layer3", "layer4"])
}

/// ResNet-50, ImageNet-1k; the taps are T-TAME's, as an auxiliary those that P-TAME takes of ResNet-18.
pub fn resnet50() -> Architecture {
    Architecture {
        auxiliary_taps: Some(&["layer1", "layer2", "layer3", "layer4"]),
        ..architecture("resnet50", RESNET50, imagenet(), &["layer2", "layer3", "layer4"])
    }
}

/// The quickstart's classifier of the procedural shapes, 96x96 pixels.
pub fn shapes_resnet() -> Architecture {
    let preprocessing = Preprocessing { resize: 96, crop: 96, mean: [0.5; 3], std: [0.5; 3], ..imagenet() };
    architecture("shapes_resnet", SHAPES, preprocessing, &["layer1", "layer2", "layer3"])
}

fn architecture(
    name: &'static str,
    layout: Layout,
    preprocessing: Preprocessing,
    default_taps: &'static [&'static str],
) -> Architecture {
    let mut taps = Vec::new();
    let first = 4; // both stems have stride 2; pooling or `layer1` has another 2
    for (i, depth) in layout.depths.iter().enumerate() {
        let channels = (layout.width << i) * layout.block.expansion();
        let names = (0..*depth).map(|j| format!("layer{}.{j}", i + 1)).chain([format!("layer{}", i + 1)]);
        taps.extend(names.map(|name| TapSpec::map(name, channels, first << i)));
    }
    Architecture {
        name,
        preprocessing,
        taps,
        default_taps,
        auxiliary_taps: None,
        alias: |_| None,
        head: "fc.weight",
        build: Box::new(move |reader| Box::new(ResNet::read(reader, layout))),
    }
}

#[derive(Debug)]
struct ResNet {
    stem: Conv2d,
    pool: bool,
    layers: Vec<Vec<Residual>>,
    fc: Linear,
}

#[derive(Debug)]
struct Residual {
    convs: Vec<Conv2d>,
    downsample: Option<Conv2d>,
}

impl Residual {
    fn read(reader: &mut WeightReader, name: &str, block: Block, input: usize, width: usize, stride: usize) -> Self {
        let output = width * block.expansion();
        let specs = match block {
            Block::Basic => vec![ConvSpec::new(input, width, 3, stride), ConvSpec::new(width, width, 3, 1)],
            Block::Bottleneck => vec![
                ConvSpec::new(input, width, 1, 1),
                ConvSpec::new(width, width, 3, stride),
                ConvSpec::new(width, output, 1, 1),
            ],
        };
        let convs = specs
            .into_iter()
            .zip(1..)
            .map(|(spec, i)| {
                Conv2d::read_normalised(reader, &format!("{name}.conv{i}"), &format!("{name}.bn{i}"), spec, EPSILON)
            })
            .collect();
        let downsample = (stride != 1 || input != output).then(|| {
            let stem = format!("{name}.downsample");
            let spec = ConvSpec::new(input, output, 1, stride);
            Conv2d::read_normalised(reader, &format!("{stem}.0"), &format!("{stem}.1"), spec, EPSILON)
        });
        Self { convs, downsample }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(conv) => conv.forward(x.clone()),
            None => x.clone(),
        };
        let Some((last, convs)) = self.convs.split_last() else { return x };
        let y = convs.iter().fold(x, |y, conv| conv.activated(y, Activation::Relu));
        Activation::Relu.forward(last.forward(y) + shortcut)
    }
}

impl ResNet {
    fn read(reader: &mut WeightReader, layout: Layout) -> Self {
        let (spec, pool) = match layout.stem {
            Stem::ImageNet => (ConvSpec::new(3, layout.width, 7, 2), true),
            Stem::Small => (ConvSpec::new(3, layout.width / 2, 3, 2), false),
        };
        let stem = Conv2d::read_normalised(reader, "conv1", "bn1", spec, EPSILON);
        let mut input = spec.output;
        let mut layers = Vec::new();
        for (i, depth) in layout.depths.iter().enumerate() {
            let width = layout.width << i;
            let mut blocks = Vec::new();
            for j in 0..*depth {
                let stride = if j == 0 && (i > 0 || !pool) { 2 } else { 1 };
                let name = format!("layer{}.{j}", i + 1);
                blocks.push(Residual::read(reader, &name, layout.block, input, width, stride));
                input = width * layout.block.expansion();
            }
            layers.push(blocks);
        }
        let classes = reader.rows("fc.weight", 1000);
        Self { stem, pool, layers, fc: Linear::read(reader, "fc", input, classes) }
    }
}

impl Network for ResNet {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let mut x = self.stem.activated(images, Activation::Relu);
        if self.pool {
            x = max_pool(x, PoolSpec { kernel: 3, stride: 2, padding: 1 });
        }
        for (i, blocks) in self.layers.iter().enumerate() {
            for (j, block) in blocks.iter().enumerate() {
                x = hook.map(&format!("layer{}.{j}", i + 1), block.forward(x));
            }
            x = hook.map(&format!("layer{}", i + 1), x);
        }
        self.fc.forward(global_average(x))
    }
}
