//! The shape of a masking model, and which taps can carry one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backbone::TapSpec;

/// Fewest stages of a decoder, and so one tap less than a masking model needs.
const MIN_STAGES: usize = 1;
/// Input pixels per step of the finest scale taken by default: the mask has a quarter of the image's side.
const FINEST: usize = 4;
/// Tensors of a batch normalisation.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// How the decoder's output becomes a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Two channels u and v: |u| / (|u| + |v|), the paper's.
    #[default]
    Ratio,
    /// One channel u: sigmoid(u / 2), the simple variant.
    Sigmoid,
}

impl Activation {
    /// Channels of the decoder's output.
    pub fn channels(self) -> usize {
        match self {
            Self::Ratio => 2,
            Self::Sigmoid => 1,
        }
    }
}

/// How a stage of the decoder doubles the side of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// A convolution to four times the channels, which are then laid out as 2x2 cells.
    #[default]
    SubPixel,
    /// A convolution and bilinear interpolation.
    Bilinear,
}

impl Upsampling {
    /// Output channels of the convolution for each channel of the upsampled map.
    fn factor(self) -> usize {
        match self {
            Self::SubPixel => 4,
            Self::Bilinear => 1,
        }
    }
}

/// The shape of a masking model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskingModelConfig {
    /// Channels of the encoder's scales, the largest map first.
    pub channels: Vec<usize>,
    /// Sides of the scales' maps in cells; each is twice the next. The mask has the side of the first.
    pub sides: Vec<usize>,
    /// Number of classes K of the classifier.
    pub classes: usize,
    /// Whether a class selector gates the smallest scale. Without one (the paper's model for CIFAR-10) an image has one
    /// mask, whatever the class.
    pub class_selector: bool,
    /// Channels of the decoder's last stage; each stage before it has twice as many. The paper's: 64.
    pub width: usize,
    /// From the decoder's output to the mask.
    pub activation: Activation,
    /// How the stages upsample.
    pub upsampling: Upsampling,
    /// Subtracted from the selector's scores before the gate's sigmoid: the larger, the surer the selector has to be
    /// that a cell shows the class. The paper's: 0.
    pub confidence: f64,
}

/// Taps that the decoder cannot climb.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// A decoder without a stage.
    #[error(
        "the masking model's decoder needs at least two convolutional maps, the largest first, each with half the side of \
         the one before; found {found}; transformers, whose maps all have one size, cannot carry it"
    )]
    TooFew {
        /// How many taps there are.
        found: usize,
    },
    /// A tap whose map has the wrong side.
    #[error(
        "tap {tap} has maps of {found} x {found} cells for images of {side} pixels, the masking model's decoder expects \
         half the side of the tap before it, {before} with {before_side} x {before_side}; choose taps whose sides halve, \
         the largest first (`explainer-train inspect --backbone NAME` lists them), or a data.crop that halves evenly"
    )]
    WrongScale {
        /// The tap.
        tap: String,
        /// Side of its maps.
        found: usize,
        /// Side of the images in pixels.
        side: usize,
        /// The tap before it.
        before: String,
        /// Side of that one's maps.
        before_side: usize,
    },
}

impl MaskingModelConfig {
    /// The paper's model over these taps, the largest map first, for square images of `side` pixels: class selector,
    /// width 64, ratio activation, sub-pixel upsampling, confidence 0.
    ///
    /// # Errors
    /// [`ScaleError`] if there are fewer than two taps or one of them does not have half the side of the one before it.
    pub fn new(taps: &[TapSpec], classes: usize, side: usize) -> Result<Self, ScaleError> {
        if taps.len() <= MIN_STAGES {
            return Err(ScaleError::TooFew { found: taps.len() });
        }
        for pair in taps.windows(2) {
            let [before, tap] = pair else { continue };
            let (before_side, found) = (before.grid(side), tap.grid(side));
            if before_side != 2 * found {
                let (tap, before) = (tap.name.clone(), before.name.clone());
                return Err(ScaleError::WrongScale { tap, found, side, before, before_side });
            }
        }
        Ok(Self {
            channels: taps.iter().map(|tap| tap.channels).collect(),
            sides: taps.iter().map(|tap| tap.grid(side)).collect(),
            classes,
            class_selector: true,
            width: 64,
            activation: Activation::default(),
            upsampling: Upsampling::default(),
            confidence: 0.0,
        })
    }

    /// The scales of an encoder to take where none are named: of all convolutional taps, in the network's order, the
    /// last one at each stride from 4 on. For a ResNet `layer1` to `layer4`, as in the paper.
    pub fn scales(taps: &[TapSpec]) -> Vec<&TapSpec> {
        let mut scales: Vec<&TapSpec> = Vec::new();
        for tap in taps.iter().filter(|tap| tap.prefix_tokens.is_none() && tap.stride >= FINEST) {
            match scales.last_mut() {
                Some(last) if last.stride == tap.stride => *last = tap,
                _ => scales.push(tap),
            }
        }
        scales
    }

    /// Stages of the decoder.
    pub fn stages(&self) -> usize {
        self.channels.len().saturating_sub(1)
    }

    /// Channels of the smallest scale, which the selector reads.
    pub fn top(&self) -> usize {
        self.channels.last().copied().unwrap_or(0)
    }

    /// The stages from the smallest map to the largest.
    pub(super) fn plan(&self) -> Vec<StageShape> {
        let stages = self.stages();
        let mut input = self.top();
        (0..stages)
            .map(|i| {
                let width = self.width.saturating_mul(2_usize.saturating_pow((stages - 1 - i) as u32));
                let shape = StageShape {
                    input,
                    skip: self.channels.get(stages - 1 - i).copied().unwrap_or(0),
                    width,
                    upsampled: width.saturating_mul(self.upsampling.factor()),
                    narrow: (width / 4).max(1),
                };
                input = width;
                shape
            })
            .collect()
    }

    /// Side of the mask in cells.
    pub fn map_size(&self) -> [usize; 2] {
        [self.sides.first().copied().unwrap_or(0); 2]
    }

    /// Names and shapes of the model's tensors as PyTorch would have them, running statistics included.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        if self.class_selector {
            all.push(("selector.weight".into(), vec![self.classes, self.top()]));
        }
        for (i, StageShape { input, skip, width, upsampled, narrow }) in self.plan().into_iter().enumerate() {
            let mut push = |name: &str, shape: Vec<usize>| all.push((format!("stages.{i}.{name}"), shape));
            push("up.weight", vec![upsampled, input, 1, 1]);
            push("up.bias", vec![upsampled]);
            push("reduce.weight", vec![width, width.saturating_add(skip), 1, 1]);
            NORM.iter().for_each(|part| push(&format!("bn.{part}"), vec![width]));
            for (j, output, input, kernel) in [(1, narrow, width, 1), (2, narrow, narrow, 3), (3, width, narrow, 1)] {
                push(&format!("block.conv{j}.weight"), vec![output, input, kernel, kernel]);
                NORM.iter().for_each(|part| push(&format!("block.bn{j}.{part}"), vec![output]));
            }
        }
        let last = self.plan().last().map_or(0, |stage| stage.width);
        all.push(("output.weight".into(), vec![self.activation.channels(), last, 1, 1]));
        all.push(("output.bias".into(), vec![self.activation.channels()]));
        all
    }
}

/// Channels of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageShape {
    /// Of the map that comes from below.
    pub input: usize,
    /// Of the encoder's map at the stage's own scale.
    pub skip: usize,
    /// Of the stage's result, and of the upsampled map.
    pub width: usize,
    /// Of the convolution before the upsampling.
    pub upsampled: usize,
    /// Inside the bottleneck.
    pub narrow: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{architecture, names};

    fn named(taps: &[&TapSpec]) -> Vec<String> {
        taps.iter().map(|tap| tap.name.clone()).collect()
    }

    #[test]
    fn every_convolutional_backbone_has_scales_and_no_transformer_has() {
        for name in names() {
            let architecture = architecture(name).unwrap();
            let taps: Vec<TapSpec> = MaskingModelConfig::scales(&architecture.taps).into_iter().cloned().collect();
            let made = MaskingModelConfig::new(&taps, 10, architecture.preprocessing.crop);
            match architecture.taps.iter().any(|tap| tap.prefix_tokens.is_some()) {
                true => assert_eq!(made.unwrap_err(), ScaleError::TooFew { found: 0 }, "{name}"),
                false => assert_eq!(made.unwrap().sides[0], architecture.preprocessing.crop / 4, "{name}"),
            }
        }
    }

    #[test]
    fn a_resnets_scales_are_its_layers() {
        let taps = architecture("resnet50").unwrap().taps;
        assert_eq!(named(&MaskingModelConfig::scales(&taps)), ["layer1", "layer2", "layer3", "layer4"]);
        let taps = architecture("tf_efficientnet_lite0").unwrap().taps;
        assert_eq!(named(&MaskingModelConfig::scales(&taps)), ["blocks.1", "blocks.2", "blocks.4", "blocks.6"]);
    }

    #[test]
    fn the_papers_decoder_has_three_stages() {
        let taps = architecture("resnet50").unwrap().taps;
        let taps: Vec<TapSpec> = MaskingModelConfig::scales(&taps).into_iter().cloned().collect();
        let config = MaskingModelConfig::new(&taps, 1000, 224).unwrap();
        assert_eq!((config.sides.clone(), config.map_size()), (vec![56, 28, 14, 7], [56, 56]));
        let widths: Vec<_> = config.plan().iter().map(|s| (s.input, s.skip, s.width)).collect();
        assert_eq!(widths, [(2048, 1024, 256), (256, 512, 128), (128, 256, 64)]);
    }

    #[test]
    fn a_tap_at_the_wrong_scale_is_named() {
        let taps = [TapSpec::map("layer1", 8, 4), TapSpec::map("layer3", 8, 16)];
        let text = MaskingModelConfig::new(&taps, 10, 96).unwrap_err().to_string();
        for part in ["tap layer3", "6 x 6", "96 pixels", "layer1 with 24 x 24", "inspect --backbone"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        // The smallest first, and a crop that does not halve evenly: 57, 29, ...
        let taps = [TapSpec::map("layer1", 8, 4), TapSpec::map("layer2", 8, 8)];
        assert!(MaskingModelConfig::new(&[taps[1].clone(), taps[0].clone()], 10, 96).is_err());
        assert!(MaskingModelConfig::new(&taps, 10, 225).is_err());
        assert_eq!(MaskingModelConfig::new(&taps[..1], 10, 96).unwrap_err(), ScaleError::TooFew { found: 1 });
    }
}
