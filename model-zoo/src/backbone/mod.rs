//! Frozen image classifiers: the [`Backbone`] trait, its engine on Burn ([`Frozen`]) with the architectures, and
//! LibTorch's ([`torchscript`]).
//!
//! A backbone answers two questions. [`Backbone::forward`]: what does it see (logits and tapped feature maps, no
//! graph)? [`Backbone::vjp`]: how do its logits react to a change of its input (a gradient, computed inside)?
//! Nothing outside holds its weights or its graph, so any engine can stand behind the trait.

mod attended;
mod bf16;
mod cascade;
mod closure;
mod counted;
mod efficientnet;
mod frozen;
pub mod layers;
mod load;
mod mnasnet;
mod mobilenet;
mod network;
pub mod registry;
mod resnet;
mod spec;
pub mod torchscript;
mod vgg;
pub mod vit;
mod workers;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

pub use attended::{BlockAttention, BlockAttentionGradient};
pub use cascade::cascade;
pub use closure::ClosureBackbone;
pub use counted::{CountedBackbone, Passes};
pub use frozen::Frozen;
pub use load::{load, open};
pub use network::{Network, NoHook, Tap, TapHook};
pub use registry::{architecture, names};
pub use spec::{Architecture, BackboneSpec, TapSpec, imagenet};
pub use torchscript::TorchScriptError;

use crate::weights::WeightsError;
use crate::weights::source::WeightSourceError;

/// A tap of a particular backbone: its position in [`BackboneSpec::taps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TapId(usize);

/// What a backbone sees in a batch of images.
#[derive(Clone, Debug)]
pub struct BackboneOutput {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// One for each tap asked for, in that order.
    pub taps: Vec<Tap>,
}

/// How a backbone answers to an input, and how the answer reacts to it.
#[derive(Clone, Debug)]
pub struct Vjp {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// Gradient of <logits, cotangent> with respect to the input, in the input's shape.
    pub gradient: Tap,
}

/// Given logits `[n,K]` of the images `range` of a batch, dL/dlogits of the same shape.
///
/// It is called for parts of a batch, possibly from several threads at once, so that an engine needs to hold the
/// activations of a few images at a time only: a batch's memory does not grow with its size.
pub type Cotangent<'a> = &'a (dyn Fn(Tensor<2>, Range<usize>) -> Tensor<2> + Sync);

/// A frozen image classifier. Its weights never receive a gradient and never change.
pub trait Backbone: Debug + Send + Sync {
    /// Taps, preprocessing, classes.
    fn spec(&self) -> &BackboneSpec;

    /// Normalised images `[B,3,H,W]` to logits and the taps asked for; no graph is kept.
    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput;

    /// Logits of normalised images `[B,3,H,W]` and the gradient with respect to them (a [`Tap::Map`]).
    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp;

    /// The same where `feature` replaces what `tap` shows for these images; the gradient is with respect to `feature`.
    ///
    /// There may be several features an image, the same number for each: those of the first image, then those of the
    /// second, and so on. The part of the network before the tap is then shared among them. The cotangent's range
    /// counts features.
    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp;

    /// The logits alone of [`Backbone::vjp_at`], `[n,K]`, without a backward pass where the engine can do without.
    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        self.vjp_at(images, tap, feature, &|logits, _| logits.zeros_like()).logits
    }

    /// The attention of every block, first to last, for normalised images `[B,3,H,W]`; with a cotangent also the gradient
    /// of <logits, cotangent> with respect to it. All blocks of all images are in memory at once.
    ///
    /// `None` for a network without attention, or an engine that cannot show it.
    fn attention(&self, images: Tensor<4>, cotangent: Option<Cotangent<'_>>) -> Option<Vec<BlockAttention>> {
        let _ = (images, cotangent);
        None
    }

    /// Whether [`Backbone::vjp_at`] can put a feature in the place of a tap. A network of this crate can.
    fn can_replace_taps(&self) -> bool {
        true
    }

    /// Why a call since the last time this was asked could not be answered: what it returned is NaN throughout.
    ///
    /// Networks of this crate answer always. An engine that runs a program of someone else's cannot promise that, and
    /// whoever calls it asks at the end of what belongs together, such as a training step.
    fn failure(&self) -> Option<BackboneError> {
        None
    }

    /// The taps of these names.
    ///
    /// # Errors
    /// [`BackboneError::UnknownTap`] names the first that does not exist and lists those that do.
    fn taps(&self, names: &[String]) -> Result<Vec<TapId>, BackboneError> {
        let spec = self.spec();
        let find = |name: &String| {
            spec.taps.iter().position(|tap| tap.name == *name).map(TapId).ok_or_else(|| BackboneError::UnknownTap {
                backbone: spec.name.clone(),
                tap: name.clone(),
                known: spec.taps.iter().map(|tap| tap.name.clone()).collect(),
            })
        };
        names.iter().map(find).collect()
    }

    /// What is known of a tap.
    fn tap(&self, id: TapId) -> &TapSpec {
        &self.spec().taps[id.0]
    }
}

/// Whether all of `backbones` have answered since the last time they were asked.
///
/// # Errors
/// The first [`Backbone::failure`].
pub fn check_failures<'a>(backbones: impl IntoIterator<Item = &'a Arc<dyn Backbone>>) -> Result<(), BackboneError> {
    backbones.into_iter().find_map(|backbone| backbone.failure()).map_or(Ok(()), Err)
}

/// Why a backbone cannot be had, or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// No architecture of this name.
    #[error("unknown backbone {name:?}; known are {}", known.join(", "))]
    UnknownBackbone {
        /// What was asked for.
        name: String,
        /// The registry.
        known: Vec<&'static str>,
    },
    /// No tap of this name.
    #[error("backbone {backbone} has no tap {tap:?}; it has {}", known.join(", "))]
    UnknownTap {
        /// The backbone.
        backbone: String,
        /// What was asked for.
        tap: String,
        /// Its taps.
        known: Vec<String>,
    },
    /// The weights cannot be read or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights cannot be found or fetched.
    #[error(transparent)]
    Source(#[from] WeightSourceError),
    /// Only the quickstart's classifier is built in.
    #[error(
        "no weights of backbone {name} are built in, only those of shapes_resnet; give backbone.weights a file, hf:// or https://"
    )]
    NotEmbedded {
        /// The backbone.
        name: String,
    },
    /// A TorchScript cannot be used.
    #[error(transparent)]
    TorchScript(#[from] TorchScriptError),
    /// The worker threads cannot be started.
    #[error("cannot start {threads} worker threads: {reason}; try fewer with --threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The operating system's reason.
        reason: String,
    },
}
