//! The interface between a learned explainer and the rest of the project: its YAML section describes its head, and how that
//! is trained.

use std::fmt::Debug;

use burn::tensor::Device;

use crate::backbone::{BackboneSpec, TapSpec};
use crate::head::{HeadConfig, ShapeError};
use crate::training::{PhaseSpec, RunSettings};

/// A method, by its YAML section `explainer`.
pub trait MethodSection {
    /// The name in the paper.
    const TITLE: &'static str;

    /// See [`MethodRequirements`].
    const REQUIREMENTS: MethodRequirements = MethodRequirements::NONE;

    /// Configuration errors of the section, in a run with these `keys`, that can be found without the weights: one message
    /// per error, with its key. Unknown backbones and taps are reported at load time.
    fn problems(&self, _keys: &RunKeys<'_>) -> Vec<String> {
        Vec::new()
    }

    /// Keys of the section that have no effect: one message for each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A method that trains a head by gradients.
pub trait LearnedExplainer: MethodSection + Debug {
    /// The shape of its head.
    type Config: HeadConfig;

    /// The taps that it reads where the run names none; by default the backbone's own choice.
    fn default_taps(&self, backbone: &BackboneSpec) -> Vec<String> {
        backbone.default_taps.clone()
    }

    /// The shape of the head over these taps, for K classes and images of `side` pixels.
    ///
    /// # Errors
    /// [`ShapeError`] for taps that the head cannot read.
    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<Self::Config, ShapeError>;

    /// A head as training starts from it.
    fn head(&self, shape: &Self::Config, seed: u64, device: &Device) -> HeadOf<Self> {
        shape.init(seed, device)
    }

    /// The phases of a run, in order.
    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<HeadOf<Self>>>;

    /// The masking procedure as the artifact records it: by default `masking`.
    fn masking(&self, run: &RunSettings<'_>) -> &'static str {
        run.masking.name()
    }
}

/// The head of a learned explainer.
pub type HeadOf<E> = <<E as LearnedExplainer>::Config as HeadConfig>::Head;

/// What the method requires and which run features it supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodRequirements {
    /// Whether one process trains it, never several.
    pub one_process: bool,
    /// Whether it reads the feature maps of an auxiliary classifier and not the explained one's.
    pub auxiliary: bool,
    /// Whether it reads exactly one tap, which the run has to name.
    pub one_tap: bool,
    /// Whether the backbone has to go on from a changed tap.
    pub replaces_taps: bool,
    /// Whether clean passes can be kept on disk (`data.cache`).
    pub caches: bool,
    /// Whether it takes batch statistics over `train.batch_size` images.
    pub batch_norm: bool,
    /// Keys of the run that have no effect, and why.
    pub ignored: &'static [(&'static str, &'static str)],
}

impl MethodRequirements {
    /// Those of a head with batch normalisation that reads the backbone's taps.
    pub const NONE: Self = Self {
        one_process: false,
        auxiliary: false,
        one_tap: false,
        replaces_taps: false,
        caches: true,
        batch_norm: true,
        ignored: &[],
    };
}

/// The keys of a run that a section may have to agree with.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunKeys<'a> {
    /// `backbone.name`
    pub backbone: &'a str,
    /// `backbone.taps`
    pub taps: Option<&'a [String]>,
    /// `auxiliary.name` and `auxiliary.taps`
    pub auxiliary: Option<(&'a str, Option<&'a [String]>)>,
    /// `data.crop`
    pub crop: Option<usize>,
}
