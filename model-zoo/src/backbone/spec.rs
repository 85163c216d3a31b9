//! Specifications of backbones and their taps.

use std::fmt;

use serde::Serialize;

use super::network::Network;
use crate::image::{Filter, Preprocessing};
use crate::weights::WeightReader;

/// A feature map that can be tapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TapSpec {
    /// Module path, in timm's convention: `layer2`, `features.16`, `blocks.9` (a block's output), `blocks.9.norm1`.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Stride: input pixels per position.
    pub stride: usize,
    /// Number of prefix tokens (class token, registers) of transformer tokens; `None` for a convolutional map.
    pub prefix_tokens: Option<usize>,
}

impl TapSpec {
    /// A convolutional map.
    pub fn map(name: impl Into<String>, channels: usize, stride: usize) -> Self {
        Self { name: name.into(), channels, stride, prefix_tokens: None }
    }

    /// Transformer tokens.
    pub fn tokens(name: impl Into<String>, channels: usize, stride: usize, prefix: usize) -> Self {
        Self { name: name.into(), channels, stride, prefix_tokens: Some(prefix) }
    }

    /// Side of the tap's grid for square images of `side` pixels (convolutions round up, patches divide).
    pub fn grid(&self, side: usize) -> usize {
        side.div_ceil(self.stride)
    }
}

/// The specification of a loaded backbone.
#[derive(Clone, Debug, Serialize)]
pub struct BackboneSpec {
    /// Name in the registry.
    pub name: String,
    /// Preprocessing of its images.
    pub preprocessing: Preprocessing,
    /// Number of classes K.
    pub classes: usize,
    /// All taps, from input to output.
    pub taps: Vec<TapSpec>,
    /// The taps of an explainer whose configuration names none.
    pub default_taps: Vec<String>,
    /// The default taps of P-TAME's auxiliary; usually `default_taps`.
    pub auxiliary_taps: Vec<String>,
    /// SHA-256 of the weight file, in hexadecimal; `None` without a file.
    pub weights_sha256: Option<String>,
}

impl BackboneSpec {
    /// The tap of this name.
    pub fn tap(&self, name: &str) -> Option<&TapSpec> {
        self.taps.iter().find(|tap| tap.name == name)
    }

    /// Side in pixels of the only image size it takes; `None` if it takes any. Position embeddings fix the size.
    pub fn fixed_side(&self) -> Option<usize> {
        let tokens = self.taps.iter().any(|tap| tap.prefix_tokens.is_some());
        tokens.then_some(self.preprocessing.crop)
    }
}

/// Builds a network from a reader.
pub type Build = Box<dyn Fn(&mut WeightReader) -> Box<dyn Network> + Send + Sync>;

/// An entry of the registry.
pub struct Architecture {
    /// Name in configurations.
    pub name: &'static str,
    /// The preprocessing of its published weights.
    pub preprocessing: Preprocessing,
    /// Every tap.
    pub taps: Vec<TapSpec>,
    /// The taps of the paper, else the outputs of the last three stages.
    pub default_taps: &'static [&'static str],
    /// The default taps of P-TAME's auxiliary, if they differ.
    pub auxiliary_taps: Option<&'static [&'static str]>,
    /// Alternative names of its tensors; see [`WeightReader::with_alias`].
    pub alias: fn(&str) -> Option<String>,
    /// The tensor whose first axis is the number of classes.
    pub head: &'static str,
    /// Builds the network. The reader's `finish` reports missing tensors.
    pub build: Build,
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Architecture").field("name", &self.name).field("taps", &self.taps).finish_non_exhaustive()
    }
}

/// Short side 256, centre crop 224, bilinear, ImageNet mean and standard deviation.
pub fn imagenet() -> Preprocessing {
    Preprocessing {
        resize: 256,
        crop: 224,
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}
