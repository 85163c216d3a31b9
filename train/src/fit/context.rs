//! What a training step needs besides the head. Nothing here is trained.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use explainer_zoo::feature_extractor::{FeatureExtractor, Features};
use explainer_zoo::sync_batch_norm::SyncBatchNorm;
use explainer_zoo::training::{AllGather, StepContext};

use super::cache::{CachedPass, CleanCache};
use crate::data::Batch;
use crate::distributed::ProcessGroup;

/// The frozen classifiers, the device and the ranks of a run.
#[derive(Clone, Debug)]
pub struct Context {
    /// The frozen backbone with the taps that the head reads.
    pub extractor: FeatureExtractor,
    /// Where tensors live, without autodiff.
    pub device: Device,
    /// The ranks that share each batch.
    pub group: Arc<ProcessGroup>,
    /// Batch statistics over all ranks, if the head's normalisations use them.
    pub sync: Option<Arc<SyncBatchNorm>>,
    /// Clean passes of training images on disk, if they are kept.
    pub cache: Option<Arc<CleanCache>>,
}

impl Context {
    /// What a training task sees of it.
    pub fn step(&self) -> StepContext<'_> {
        let group: &dyn AllGather = self.group.as_ref();
        StepContext {
            extractor: &self.extractor,
            ranks: (!self.group.is_single()).then_some(group),
            sync: self.sync.as_deref(),
        }
    }

    /// The clean pass of a training batch, without a graph. From the cache it has no taps.
    ///
    /// If none of this rank's images could be read, a black image takes their place, so that the rank takes part in every
    /// collective of the step. The image has no weight in the loss.
    pub fn observe(&self, batch: &Batch) -> Features {
        let pixels = match batch.is_empty() {
            true => Tensor::zeros([1, 3, batch.height, batch.width], &self.device),
            false => batch.images(&self.device),
        };
        let images = self.extractor.preprocessing.normalise(pixels.clone());
        let Some(cache) = self.cache.as_ref().filter(|_| !batch.is_empty()) else {
            return self.extractor.extract_normalised(images, pixels);
        };
        let CachedPass { logits, features } = cache.get(&batch.indices, &self.device, || {
            let Features { logits, features, .. } = self.extractor.extract_normalised(images.clone(), pixels);
            CachedPass { logits, features }
        });
        Features { images, logits, taps: Vec::new(), features }
    }
}
