//! Frozen image classifiers: the trait [`Backbone`], its engine on Burn ([`Frozen`]) with the architectures, closures
//! ([`ClosureBackbone`]), and the engine on LibTorch ([`torchscript`]).
//!
//! A backbone has two operations. [`Backbone::forward`] returns logits and tapped feature maps, without a graph.
//! [`Backbone::vjp`] returns the gradient of a function of the logits with respect to the input (a vector-Jacobian
//! product). Weights and graph stay inside, so that any engine can implement the trait.

mod attention;
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
mod worker_pool;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

pub use attention::{BlockAttention, BlockAttentionGradient};
pub use cascade::cascade;
pub use closure::ClosureBackbone;
pub use counted::{CountedBackbone, Passes};
pub use frozen::Frozen;
pub use load::{load, open};
pub use network::{Network, NoHook, Tap, TapHook};
pub use registry::{architecture, names};
pub use spec::{Architecture, BackboneSpec, TapSpec, imagenet};
pub use torchscript::TorchScriptError;

use crate::spelling::did_you_mean;
use crate::weights::WeightsError;
use crate::weights::source::WeightSourceError;

/// A tap of a particular backbone: its position in [`BackboneSpec::taps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TapId(usize);

/// The output of a forward pass over a batch of images.
#[derive(Clone, Debug)]
pub struct BackboneOutput {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The requested taps, in the order of the request.
    pub taps: Vec<Tap>,
}

/// The result of a vector-Jacobian product (pullback).
#[derive(Clone, Debug)]
pub struct Vjp {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The gradient of <logits, cotangent> with respect to the input, in the input's shape.
    pub gradient: Tap,
}

/// The cotangent dL/dlogits `[n,K]`, given the logits `[n,K]` of the images `range` of a batch (`grad_outputs` in PyTorch).
///
/// It is called for chunks of a batch, possibly from several threads at once. An engine therefore holds the activations of a
/// few images at a time, whatever the size of the batch.
pub type Cotangent<'a> = &'a (dyn Fn(Tensor<2>, Range<usize>) -> Tensor<2> + Sync);

/// A frozen image classifier. Its weights never receive a gradient and never change.
pub trait Backbone: Debug + Send + Sync {
    /// Name, taps, preprocessing and number of classes.
    fn spec(&self) -> &BackboneSpec;

    /// Normalised images `[B,3,H,W]` to logits `[B,K]` and the requested taps. No graph is kept.
    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput;

    /// Logits of normalised images `[B,3,H,W]` and the gradient with respect to them (a [`Tap::Map`]).
    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp;

    /// [`Backbone::vjp`] with the feature map of `tap` replaced by `feature`; the gradient is with respect to `feature`.
    ///
    /// There may be several features for each image, the same number for all: those of the first image, then those of the
    /// second, and so on. The part of the network before the tap then runs once for them. The cotangent's range counts
    /// features.
    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp;

    /// The logits `[n,K]` of [`Backbone::vjp_at`] alone. Engines override it to save the backward pass.
    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        self.vjp_at(images, tap, feature, &|logits, _| logits.zeros_like()).logits
    }

    /// The attention of every block, from first to last, for normalised images `[B,3,H,W]`; with a cotangent also the
    /// gradient of <logits, cotangent> with respect to it. All blocks of all images are in memory at once.
    ///
    /// `None` for a network without attention, and for an engine that does not provide it.
    fn attention(&self, images: Tensor<4>, cotangent: Option<Cotangent<'_>>) -> Option<Vec<BlockAttention>> {
        let _ = (images, cotangent);
        None
    }

    /// Whether taps can be replaced ([`Backbone::vjp_at`]). True for the networks of this crate.
    fn can_replace_taps(&self) -> bool {
        true
    }

    /// The first failure since the last call of this function. A call that fails returns NaN throughout.
    ///
    /// Networks of this crate do not fail. An engine that runs a foreign program may: call this at the end of a unit of work,
    /// such as a training step.
    fn failure(&self) -> Option<BackboneError> {
        None
    }

    /// The taps of these names.
    ///
    /// # Errors
    /// [`BackboneError::UnknownTap`] names the first tap that does not exist and lists those that do.
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

    /// The specification of a tap.
    fn tap(&self, id: TapId) -> &TapSpec {
        &self.spec().taps[id.0]
    }
}

/// Checks that no call of `backbones` has failed since the last check.
///
/// # Errors
/// The first [`Backbone::failure`].
pub fn check_failures<'a>(backbones: impl IntoIterator<Item = &'a Arc<dyn Backbone>>) -> Result<(), BackboneError> {
    backbones.into_iter().find_map(|backbone| backbone.failure()).map_or(Ok(()), Err)
}

/// Why a backbone cannot be loaded, or cannot compute.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// No architecture of this name.
    #[error(
        "unknown backbone {name:?}; known are {}{}",
        known.join(", "), did_you_mean(name, known.iter().copied())
    )]
    UnknownBackbone {
        /// The name given.
        name: String,
        /// The registry's names.
        known: Vec<&'static str>,
    },
    /// No tap of this name.
    #[error(
        "backbone {backbone} has no tap {tap:?}; it has {}{}",
        known.join(", "), did_you_mean(tap, known.iter().map(String::as_str))
    )]
    UnknownTap {
        /// The backbone.
        backbone: String,
        /// The name given.
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
        /// Number of threads.
        threads: usize,
        /// The operating system's reason.
        reason: String,
    },
}
