//! A backbone that counts its passes.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Deref, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Tensor;
use serde::Serialize;

use super::{Backbone, BackboneError, BackboneOutput, BackboneSpec, BlockAttention, Cotangent, Tap, TapId, Vjp};

/// Passes of single images through a backbone.
///
/// A feature that replaces a tap counts as one image, although the part of the network before the tap may have run once for
/// several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passes {
    /// Forward passes.
    pub forward: u64,
    /// Backward passes. The forward pass before each is counted, too.
    pub backward: u64,
}

impl Add for Passes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { forward: self.forward + other.forward, backward: self.backward + other.backward }
    }
}

impl AddAssign for Passes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Passes {
    type Output = Self;

    /// The passes since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            forward: self.forward.saturating_sub(earlier.forward),
            backward: self.backward.saturating_sub(earlier.backward),
        }
    }
}

/// A wrapper of a backbone (a reference or an `Arc`) that counts its passes.
#[derive(Debug)]
pub struct CountedBackbone<B> {
    backbone: B,
    forward: AtomicU64,
    backward: AtomicU64,
}

impl<B> CountedBackbone<B> {
    /// Starts at 0.
    pub fn new(backbone: B) -> Self {
        Self { backbone, forward: AtomicU64::new(0), backward: AtomicU64::new(0) }
    }

    /// The passes so far.
    pub fn passes(&self) -> Passes {
        Passes { forward: self.forward.load(Ordering::Relaxed), backward: self.backward.load(Ordering::Relaxed) }
    }

    fn count(&self, images: usize, backward: bool) {
        self.forward.fetch_add(images as u64, Ordering::Relaxed);
        if backward {
            self.backward.fetch_add(images as u64, Ordering::Relaxed);
        }
    }
}

impl<B: Deref<Target: Backbone> + Debug + Send + Sync> Backbone for CountedBackbone<B> {
    fn spec(&self) -> &BackboneSpec {
        self.backbone.spec()
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        self.count(images.dims()[0], false);
        self.backbone.forward(images, taps)
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        self.count(images.dims()[0], true);
        self.backbone.vjp(images, cotangent)
    }

    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        self.count(feature.batch(), true);
        self.backbone.vjp_at(images, tap, feature, cotangent)
    }

    fn can_replace_taps(&self) -> bool {
        self.backbone.can_replace_taps()
    }

    fn failure(&self) -> Option<BackboneError> {
        self.backbone.failure()
    }

    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        self.count(feature.batch(), false);
        self.backbone.forward_at(images, tap, feature)
    }

    fn attention(&self, images: Tensor<4>, cotangent: Option<Cotangent<'_>>) -> Option<Vec<BlockAttention>> {
        self.count(images.dims()[0], cotangent.is_some());
        self.backbone.attention(images, cotangent)
    }
}
