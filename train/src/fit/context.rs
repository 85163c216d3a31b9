//! What a training step works with besides the explainer: the frozen backbone, its taps or an auxiliary's, and what it
//! is trained for.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use explainer_zoo::adapter::Adapter;
use explainer_zoo::auxiliary::Auxiliary;
use explainer_zoo::backbone::{Backbone, BackboneError, TapId, check_failures};
use explainer_zoo::explainer::tame::SyncBatchNorm;

use super::cache::{CleanCache, Look};
use super::step::{MaskingTask, PhaseName, TameTask};
use crate::config::{Config, ExplainerConfig};
use crate::data::Batch;
use crate::distributed::ProcessGroup;
use explainer_zoo::masking::Masking;

/// What the map is multiplied into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The image, by this procedure (T-TAME, TAME, L-CAM-Img).
    Image(Masking),
    /// The feature map of the only tap (L-CAM-Fm).
    Feature,
}

/// What an explainer is trained for, by family.
#[derive(Clone, Debug)]
pub enum Task {
    /// T-TAME, TAME and L-CAM.
    Tame(TameTask),
    /// The fast masking model.
    MaskingModel(MaskingTask),
}

impl Task {
    /// What a run trains its explainer for, in its last phase if it has several.
    pub fn of(config: &Config) -> Self {
        let masked = match &config.explainer {
            ExplainerConfig::MaskingModel(section) => {
                return Self::MaskingModel(MaskingTask::new(section, PhaseName::Decoder, config.train.seed));
            }
            ExplainerConfig::LcamFm(_) => Masked::Feature,
            _ => Masked::Image(config.masking),
        };
        Self::Tame(TameTask { masked, objective: config.objective.clone() })
    }
}

/// The surroundings of a training step. Nothing here is trained.
#[derive(Clone, Debug)]
pub struct Context {
    /// The classifier to explain.
    pub backbone: Arc<dyn Backbone>,
    /// Its taps, in the head's order; none where the head looks at an auxiliary's.
    pub taps: Vec<TapId>,
    /// How each becomes a map.
    pub adapters: Vec<Adapter>,
    /// The classifier whose feature maps the head looks at, if it is another one (P-TAME).
    pub auxiliary: Option<Auxiliary>,
    /// What the explainer is trained for.
    pub task: Task,
    /// Where tensors live, without autodiff.
    pub device: Device,
    /// Largest global norm of the gradients, if they are clipped.
    pub clip_norm: Option<f64>,
    /// The ranks that share each batch.
    pub group: Arc<ProcessGroup>,
    /// What the head's normalisations share with those of the other ranks, if they do.
    pub sync: Option<Arc<SyncBatchNorm>>,
    /// Clean passes of training images that are kept, if they are.
    pub cache: Option<Arc<CleanCache>>,
}

/// A batch as the backbone sees it.
#[derive(Clone, Debug)]
pub struct Clean {
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The predicted class of each image `[B]`, which is what is explained.
    pub class: Tensor<1, Int>,
    /// The taps as the backbone showed them.
    pub taps: Vec<explainer_zoo::backbone::Tap>,
    /// What the head looks at: the taps after their adapters, or the auxiliary's.
    pub features: Vec<Tensor<4>>,
}

impl Context {
    /// Whether the classifiers have answered since the last time they were asked.
    ///
    /// # Errors
    /// Why one of them did not; what it returned is NaN.
    pub fn check_failures(&self) -> Result<(), BackboneError> {
        check_failures([&self.backbone].into_iter().chain(self.auxiliary.as_ref().map(|auxiliary| &auxiliary.backbone)))
    }

    /// The clean pass: images `[B,3,H,W]` in 0..1, without a graph. An auxiliary sees the same pixels, with its own
    /// mean and standard deviation.
    pub fn clean(&self, pixels: Tensor<4>) -> Clean {
        let images = self.backbone.spec().preprocessing.normalise(pixels.clone());
        let seen = self.backbone.forward(images.clone(), &self.taps);
        let [batch, _] = seen.logits.dims();
        let class = seen.logits.clone().argmax(1).reshape([batch]);
        let features = match &self.auxiliary {
            Some(auxiliary) => auxiliary.features(pixels),
            None => self.adapters.iter().zip(&seen.taps).map(|(adapter, tap)| adapter.apply(tap.clone())).collect(),
        };
        Clean { images, logits: seen.logits, class, taps: seen.taps, features }
    }

    /// The clean pass of training images, from the cache where there is one; then it has no taps.
    pub fn clean_of(&self, batch: &Batch) -> Clean {
        let pixels = batch.images(&self.device);
        let Some(cache) = &self.cache else { return self.clean(pixels) };
        let images = self.backbone.spec().preprocessing.normalise(pixels.clone());
        let Look { logits, features } = cache.look(&batch.indices, &self.device, || {
            let clean = self.clean(pixels);
            Look { logits: clean.logits, features: clean.features }
        });
        let class = logits.clone().argmax(1).reshape([batch.len()]);
        Clean { images, logits, class, taps: Vec::new(), features }
    }
}
