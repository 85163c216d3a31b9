//! MnasNet with half the channels (Tan et al., 2019), torchvision's names.

use burn::tensor::{Tensor, activation};

use super::layers::{Activation, ChannelAffine, Conv2d, ConvSpec, Linear, global_average};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::weights::WeightReader;

const EPSILON: f64 = 1e-5;
const STEM: usize = 16;
const SEPARABLE: usize = 8;
const LAST: usize = 1280;

/// Kernel, stride of the first block, expansion, output channels, blocks: `layers.8` to `layers.13`.
struct Stack(usize, usize, usize, usize, usize);
const STACKS: [Stack; 6] = [
    Stack(3, 2, 3, 16, 3),
    Stack(5, 2, 3, 24, 3),
    Stack(5, 2, 6, 40, 3),
    Stack(3, 1, 6, 48, 2),
    Stack(5, 2, 6, 96, 4),
    Stack(3, 1, 6, 160, 1),
];
const FIRST_STACK: usize = 8;

/// MnasNet 0.5, ImageNet-1k; the taps are P-TAME's.
pub fn mnasnet0_5() -> Architecture {
    let mut stride = 2;
    let mut taps: Vec<TapSpec> = Vec::new();
    for (i, stack) in STACKS.iter().enumerate() {
        stride *= stack.1;
        taps.push(TapSpec::map(format!("layers.{}", FIRST_STACK + i), stack.3, stride));
    }
    taps.extend((14..=16).map(|i| TapSpec::map(format!("layers.{i}"), LAST, stride)));
    Architecture {
        name: "mnasnet0_5",
        preprocessing: imagenet(),
        taps,
        default_taps: &["layers.13", "layers.14", "layers.15", "layers.16"],
        auxiliary_taps: None,
        alias: |_| None,
        head: "classifier.1.weight",
        build: Box::new(|reader| Box::new(MnasNet::read(reader))),
    }
}

#[derive(Debug)]
struct MnasNet {
    /// Stem, depthwise and projection of the first, separable convolution.
    stem: [Conv2d; 3],
    stacks: Vec<Vec<Block>>,
    last: Conv2d,
    /// Separate from `last`, because the map between them is a tap.
    last_norm: ChannelAffine,
    classifier: Linear,
}

#[derive(Debug)]
struct Block {
    convs: [Conv2d; 3],
    residual: bool,
}

/// `layers.{i}` under `name`, with the normalisation that follows.
fn normalised(reader: &mut WeightReader, name: &str, i: usize, spec: ConvSpec) -> Conv2d {
    Conv2d::read_normalised(reader, &format!("{name}layers.{i}"), &format!("{name}layers.{}", i + 1), spec, EPSILON)
}

/// ReLU after the first two of three convolutions.
fn separable([first, second, third]: &[Conv2d; 3], x: Tensor<4>) -> Tensor<4> {
    let x = first.activated(x, Activation::Relu);
    third.forward(second.activated(x, Activation::Relu))
}

impl Block {
    fn read(reader: &mut WeightReader, name: &str, input: usize, stack: &Stack, stride: usize) -> Self {
        let Stack(kernel, _, expansion, output, _) = *stack;
        let width = input * expansion;
        let convs = [
            normalised(reader, name, 0, ConvSpec::new(input, width, 1, 1)),
            normalised(reader, name, 3, ConvSpec::depthwise(width, kernel, stride)),
            normalised(reader, name, 6, ConvSpec::new(width, output, 1, 1)),
        ];
        Self { convs, residual: stride == 1 && input == output }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.residual {
            true => separable(&self.convs, x.clone()) + x,
            false => separable(&self.convs, x),
        }
    }
}

impl MnasNet {
    fn read(reader: &mut WeightReader) -> Self {
        let stem = [
            normalised(reader, "", 0, ConvSpec::new(3, STEM, 3, 2)),
            normalised(reader, "", 3, ConvSpec::depthwise(STEM, 3, 1)),
            normalised(reader, "", 6, ConvSpec::new(STEM, SEPARABLE, 1, 1)),
        ];
        let (mut stacks, mut input) = (Vec::new(), SEPARABLE);
        for (i, stack) in STACKS.iter().enumerate() {
            let mut blocks = Vec::new();
            for j in 0..stack.4 {
                let stride = if j == 0 { stack.1 } else { 1 };
                blocks.push(Block::read(reader, &format!("layers.{}.{j}.", FIRST_STACK + i), input, stack, stride));
                input = stack.3;
            }
            stacks.push(blocks);
        }
        let last = Conv2d::read(reader, "layers.14", ConvSpec::new(input, LAST, 1, 1), false);
        let last_norm = ChannelAffine::read_norm(reader, "layers.15", LAST, EPSILON);
        let classes = reader.rows("classifier.1.weight", 1000);
        Self { stem, stacks, last, last_norm, classifier: Linear::read(reader, "classifier.1", LAST, classes) }
    }
}

impl Network for MnasNet {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let mut x = separable(&self.stem, images);
        for (i, blocks) in self.stacks.iter().enumerate() {
            x = blocks.iter().fold(x, |x, block| block.forward(x));
            x = hook.map(&format!("layers.{}", FIRST_STACK + i), x);
        }
        let x = hook.map("layers.14", self.last.forward(x));
        // torchvision's ReLU works in place: a tap of layers.15 there, as in P-TAME, is the map after the ReLU.
        let x = hook.map("layers.15", activation::relu(self.last_norm.forward(x)));
        let x = hook.map("layers.16", x);
        self.classifier.forward(global_average(x))
    }
}
