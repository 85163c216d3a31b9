//! VGG-16 (Simonyan & Zisserman, 2015), torchvision's and timm's names.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;

use super::layers::{Activation, Conv2d, ConvSpec, Linear, PoolSpec, max_pool};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::weights::WeightReader;

/// Output channels of the convolutions; `None` is a max-pooling that halves the side.
const LAYOUT: [Option<usize>; 18] = {
    const P: Option<usize> = None;
    const fn c(channels: usize) -> Option<usize> {
        Some(channels)
    }
    [
        c(64),
        c(64),
        P,
        c(128),
        c(128),
        P,
        c(256),
        c(256),
        c(256),
        P,
        c(512),
        c(512),
        c(512),
        P,
        c(512),
        c(512),
        c(512),
        P,
    ]
};
/// Side of the classifier's input map.
const POOLED: usize = 7;
const HIDDEN: usize = 4096;

/// VGG-16 without batch normalisation, ImageNet-1k; the taps are T-TAME's.
pub fn vgg16() -> Architecture {
    let mut taps = Vec::new();
    let (mut index, mut channels, mut stride) = (0, 0, 1);
    for layer in LAYOUT {
        match layer {
            Some(output) => {
                channels = output;
                index += 1; // after the convolution comes its ReLU, which is the tap
                taps.push(TapSpec::map(format!("features.{index}"), channels, stride));
            }
            None => {
                stride *= 2;
                taps.push(TapSpec::map(format!("features.{index}"), channels, stride));
            }
        }
        index += 1;
    }
    Architecture {
        name: "vgg16",
        preprocessing: imagenet(),
        taps,
        default_taps: &["features.16", "features.23", "features.30"],
        auxiliary_taps: None,
        alias: timm,
        head: "classifier.6.weight",
        build: Box::new(|reader| Box::new(Vgg::read(reader))),
    }
}

fn timm(name: &str) -> Option<String> {
    let (layer, part) = name.rsplit_once('.')?;
    let layer = match layer {
        "classifier.0" => "pre_logits.fc1",
        "classifier.3" => "pre_logits.fc2",
        "classifier.6" => "head.fc",
        _ => return None,
    };
    Some(format!("{layer}.{part}"))
}

#[derive(Debug)]
struct Vgg {
    convs: Vec<Conv2d>,
    classifier: [Linear; 3],
}

impl Vgg {
    fn read(reader: &mut WeightReader) -> Self {
        let (mut convs, mut input, mut index) = (Vec::new(), 3, 0);
        for layer in LAYOUT {
            if let Some(output) = layer {
                let spec = ConvSpec::new(input, output, 3, 1);
                convs.push(Conv2d::read(reader, &format!("features.{index}"), spec, true));
                input = output;
                index += 1;
            }
            index += 1;
        }
        let classes = reader.rows("classifier.6.weight", 1000);
        let classifier = [
            Linear::read(reader, "classifier.0", input * POOLED * POOLED, HIDDEN),
            Linear::read(reader, "classifier.3", HIDDEN, HIDDEN),
            Linear::read(reader, "classifier.6", HIDDEN, classes),
        ];
        Self { convs, classifier }
    }
}

impl Network for Vgg {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let (mut x, mut index, mut convs) = (images, 0, self.convs.iter());
        for layer in LAYOUT {
            x = match (layer, convs.len()) {
                (Some(_), 1..) => {
                    index += 1;
                    convs.next().map_or(x.clone(), |conv| conv.activated(x, Activation::Relu))
                }
                _ => max_pool(x, PoolSpec { kernel: 2, stride: 2, padding: 0 }),
            };
            x = hook.map(&format!("features.{index}"), x);
            index += 1;
        }
        let [batch, channels, height, width] = x.dims();
        if [height, width] != [POOLED; 2] {
            x = adaptive_avg_pool2d(x, [POOLED; 2]);
        }
        let [first, second, last] = &self.classifier;
        let hidden = burn::tensor::activation::relu(first.forward(x.reshape([batch, channels * POOLED * POOLED])));
        last.forward(burn::tensor::activation::relu(second.forward(hidden)))
    }
}
