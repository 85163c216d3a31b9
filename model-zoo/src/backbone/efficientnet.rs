//! EfficientNet-Lite0 (TensorFlow's, 2020) with timm's names and TensorFlow's `SAME` padding.

use burn::tensor::Tensor;

use super::layers::{Activation, Conv2d, ConvSpec, Linear, global_average};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::image::Preprocessing;
use crate::weights::WeightReader;

const EPSILON: f64 = 1e-3;
const STEM: usize = 32;
const HEAD: usize = 1280;

/// One stage: kernel, stride of its first block, expansion, output channels, blocks.
struct Stage(usize, usize, usize, usize, usize);
const STAGES: [Stage; 7] = [
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
];

/// EfficientNet-Lite0; the taps are the last maps at strides 8, 16 and 32.
pub fn tf_efficientnet_lite0() -> Architecture {
    let mut stride = 2;
    let taps = STAGES.iter().enumerate().map(|(i, stage)| {
        stride *= stage.1;
        TapSpec::map(format!("blocks.{i}"), stage.3, stride)
    });
    Architecture {
        name: "tf_efficientnet_lite0",
        taps: taps.collect(),
        preprocessing: Preprocessing { mean: [0.5; 3], std: [0.5; 3], ..imagenet() },
        default_taps: &["blocks.2", "blocks.4", "blocks.6"],
        auxiliary_taps: None,
        alias: |_| None,
        head: "classifier.weight",
        build: Box::new(|reader| Box::new(EfficientNet::read(reader))),
    }
}

#[derive(Debug)]
struct EfficientNet {
    stem: Conv2d,
    stages: Vec<Vec<InvertedResidual>>,
    head: Conv2d,
    classifier: Linear,
}

/// Expand (none in the first stage), depthwise, project.
#[derive(Debug)]
struct InvertedResidual {
    expand: Option<Conv2d>,
    depthwise: Conv2d,
    project: Conv2d,
    residual: bool,
}

impl InvertedResidual {
    fn read(reader: &mut WeightReader, name: &str, input: usize, stage: &Stage, stride: usize) -> Self {
        let Stage(kernel, _, expansion, output, _) = *stage;
        let width = input * expansion;
        // timm numbers the normalisations consecutively, with or without an expansion.
        let names: [&str; 3] =
            if expansion == 1 { ["", "conv_dw", "conv_pw"] } else { ["conv_pw", "conv_dw", "conv_pwl"] };
        let first = usize::from(expansion == 1);
        let mut read = |i: usize, spec: ConvSpec| {
            let norm = format!("{name}.bn{}", i + 1 - first);
            Conv2d::read_normalised(reader, &format!("{name}.{}", names[i]), &norm, spec.same(), EPSILON)
        };
        Self {
            expand: (expansion > 1).then(|| read(0, ConvSpec::new(input, width, 1, 1))),
            depthwise: read(1, ConvSpec::depthwise(width, kernel, stride)),
            project: read(2, ConvSpec::new(width, output, 1, 1)),
            residual: stride == 1 && input == output,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = self.residual.then(|| x.clone());
        let mut y = x;
        for conv in self.expand.iter().chain([&self.depthwise]) {
            y = conv.activated(y, Activation::Relu6);
        }
        let y = self.project.forward(y);
        match shortcut {
            Some(x) => x + y,
            None => y,
        }
    }
}

impl EfficientNet {
    fn read(reader: &mut WeightReader) -> Self {
        let stem = Conv2d::read_normalised(reader, "conv_stem", "bn1", ConvSpec::new(3, STEM, 3, 2).same(), EPSILON);
        let (mut stages, mut input) = (Vec::new(), STEM);
        for (i, stage) in STAGES.iter().enumerate() {
            let mut blocks = Vec::new();
            for j in 0..stage.4 {
                let stride = if j == 0 { stage.1 } else { 1 };
                blocks.push(InvertedResidual::read(reader, &format!("blocks.{i}.{j}"), input, stage, stride));
                input = stage.3;
            }
            stages.push(blocks);
        }
        let head = Conv2d::read_normalised(reader, "conv_head", "bn2", ConvSpec::new(input, HEAD, 1, 1), EPSILON);
        let classes = reader.rows("classifier.weight", 1000);
        Self { stem, stages, head, classifier: Linear::read(reader, "classifier", HEAD, classes) }
    }
}

impl Network for EfficientNet {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let mut x = self.stem.activated(images, Activation::Relu6);
        for (i, blocks) in self.stages.iter().enumerate() {
            x = blocks.iter().fold(x, |x, block| block.forward(x));
            x = hook.map(&format!("blocks.{i}"), x);
        }
        self.classifier.forward(global_average(self.head.activated(x, Activation::Relu6)))
    }
}
