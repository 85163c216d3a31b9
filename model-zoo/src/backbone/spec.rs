//! What is known of a backbone before any weight is read.

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
    /// Input pixels per step of the grid.
    pub stride: usize,
    /// For tokens: how many stand before the patches (class token, registers). `None` for a convolutional map.
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

/// A loaded backbone's contract.
#[derive(Clone, Debug, Serialize)]
pub struct BackboneSpec {
    /// Name in the registry.
    pub name: String,
    /// What the network expects of its images.
    pub preprocessing: Preprocessing,
    /// Number of classes K, which is the classifier head's.
    pub classes: usize,
    /// Every tap there is, from input to output.
    pub taps: Vec<TapSpec>,
    /// The taps an explainer takes if the configuration names none.
    pub default_taps: Vec<String>,
    /// The same where it is P-TAME's auxiliary: `default_taps` in most.
    pub auxiliary_taps: Vec<String>,
    /// SHA-256 of the file the weights were read from, in hexadecimal; `None` for generated weights.
    pub weights_sha256: Option<String>,
}

impl BackboneSpec {
    /// The tap of this name.
    pub fn tap(&self, name: &str) -> Option<&TapSpec> {
        self.taps.iter().find(|tap| tap.name == name)
    }

    /// Side in pixels of the only images it takes, where position embeddings fit one grid.
    pub fn fixed_side(&self) -> Option<usize> {
        let tokens = self.taps.iter().any(|tap| tap.prefix_tokens.is_some());
        tokens.then_some(self.preprocessing.crop)
    }
}

/// Builds a network from a reader.
pub type Build = Box<dyn Fn(&mut WeightReader) -> Box<dyn Network> + Send + Sync>;

/// An entry of the registry: how to build one architecture.
pub struct Architecture {
    /// Name in configurations.
    pub name: &'static str,
    /// What its published weights were trained with.
    pub preprocessing: Preprocessing,
    /// Every tap.
    pub taps: Vec<TapSpec>,
    /// The taps of the paper, or the ends of the last three stages.
    pub default_taps: &'static [&'static str],
    /// The same where it is P-TAME's auxiliary, if they are others.
    pub auxiliary_taps: Option<&'static [&'static str]>,
    /// Other names of the same tensors; see [`WeightReader::with_alias`].
    pub alias: fn(&str) -> Option<String>,
    /// The tensor whose first axis is the number of classes.
    pub head: &'static str,
    /// Reads the network. A missing tensor is reported by the reader's `finish`.
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
