//! The clean pass: what frozen classifiers make of images, and the feature maps that a head reads.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use crate::adapter::{Adapter, AdapterError};
use crate::auxiliary::Auxiliary;
use crate::backbone::{Backbone, BackboneError, Tap, TapId, TapSpec, check_failures};
use crate::head::ExplainerInput;
use crate::image::Preprocessing;

/// A frozen backbone with the taps, adapters and, for P-TAME, the auxiliary classifier that a head reads. Training and
/// explaining share it, so that a head sees the same features in both.
#[derive(Clone, Debug)]
pub struct FeatureExtractor {
    /// The explained classifier.
    pub backbone: Arc<dyn Backbone>,
    /// How its images are normalised.
    pub preprocessing: Preprocessing,
    /// Its taps, in the head's order; none with an auxiliary.
    pub taps: Vec<TapId>,
    /// How each tap becomes a map.
    pub adapters: Vec<Adapter>,
    /// The classifier whose feature maps the head reads instead of the backbone's (P-TAME).
    pub auxiliary: Option<Auxiliary>,
}

/// The result of a clean pass over B images.
#[derive(Clone, Debug)]
pub struct Features {
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// Logits of the explained classifier `[B,K]`.
    pub logits: Tensor<2>,
    /// The backbone's taps as it returns them.
    pub taps: Vec<Tap>,
    /// The head's input: the taps after their adapters, or the auxiliary's, `[B,C_i,h_i,w_i]` each.
    pub features: Vec<Tensor<4>>,
}

impl FeatureExtractor {
    /// An extractor of the taps of these names; the auxiliary's maps replace them where there is one.
    ///
    /// # Errors
    /// [`BackboneError::UnknownTap`].
    pub fn new(
        backbone: Arc<dyn Backbone>,
        preprocessing: Preprocessing,
        taps: &[String],
        auxiliary: Option<Auxiliary>,
    ) -> Result<Self, FeatureError> {
        let taps = if auxiliary.is_some() { Vec::new() } else { backbone.taps(taps)? };
        let side = preprocessing.crop;
        let adapters = taps.iter().map(|tap| Adapter::new(backbone.tap(*tap), side)).collect::<Result<_, _>>()?;
        Ok(Self { backbone, preprocessing, taps, adapters, auxiliary })
    }

    /// The taps that the head reads, in its order: the backbone's, or the auxiliary's.
    pub fn tap_specs(&self) -> Vec<TapSpec> {
        let own = || self.taps.iter().map(|tap| self.backbone.tap(*tap).clone()).collect();
        self.auxiliary.as_ref().map_or_else(own, Auxiliary::tap_specs)
    }

    /// The clean pass of images `[B,3,H,W]` in 0..=1, without a graph: one forward pass of the backbone, and one of the
    /// auxiliary on the same pixels under its own normalisation.
    pub fn extract(&self, pixels: Tensor<4>) -> Features {
        self.extract_normalised(self.preprocessing.normalise(pixels.clone()), pixels)
    }

    /// [`FeatureExtractor::extract`] where the normalised `images` are there already.
    pub fn extract_normalised(&self, images: Tensor<4>, pixels: Tensor<4>) -> Features {
        let output = self.backbone.forward(images.clone(), &self.taps);
        let features = match &self.auxiliary {
            Some(auxiliary) => auxiliary.features(pixels),
            None => self.adapters.iter().zip(&output.taps).map(|(adapter, tap)| adapter.apply(tap.clone())).collect(),
        };
        Features { images, logits: output.logits, taps: output.taps, features }
    }

    /// Whether the classifiers could compute everything since the last call.
    ///
    /// # Errors
    /// Why one of them could not; what it returned then is NaN.
    pub fn check_failures(&self) -> Result<(), BackboneError> {
        check_failures([&self.backbone].into_iter().chain(self.auxiliary.as_ref().map(|auxiliary| &auxiliary.backbone)))
    }
}

impl Features {
    /// The predicted class of each image `[B]`.
    pub fn predicted(&self) -> Tensor<1, Int> {
        let [batch, _] = self.logits.dims();
        self.logits.clone().argmax(1).reshape([batch])
    }

    /// What a head reads.
    pub fn input(&self) -> ExplainerInput<'_> {
        ExplainerInput { images: &self.images, features: &self.features }
    }
}

/// Why taps cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The backbone has no such tap.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A tap cannot become a map at this image size.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
