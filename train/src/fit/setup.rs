//! Loads and checks what a run is made of: classifiers, the head's shape, images, and how they are read.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::device::Compute;
use explainer_zoo::explainer::AnyHeadConfig;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::sync_batch_norm::SyncBatchNorm;

use super::FitError;
use super::cache::CleanCache;
use super::checkpoint::RunIdentity;
use super::classifier::ExplainedClassifier;
use super::context::Context;
use crate::config::{Augment, Config, Data};
use crate::data::shapes::{SIDE, Split};
use crate::data::{self, ImageSet, LoaderOptions, Scenes, Subset};
use crate::distributed::{ProcessGroup, own_device, own_threads};

/// The loaded parts of a run.
pub(super) struct Components {
    pub classifier: ExplainedClassifier,
    pub context: Context,
    /// The shape of the head.
    pub head: AnyHeadConfig,
    pub train: Arc<dyn ImageSet>,
    pub valid: Arc<dyn ImageSet>,
    /// What a checkpoint must have been made with.
    pub identity: RunIdentity,
}

impl Components {
    /// Loads the parts on all ranks, on the first rank of each machine before the others, which find its downloads.
    ///
    /// # Errors
    /// [`FitError`] of any rank; [`FitError::OtherRun`] if the ranks have loaded different runs.
    pub fn load(config: &Config, quiet: bool, group: &Arc<ProcessGroup>) -> Result<Self, FitError> {
        let load = || {
            let device = own_device(&config.device, group)?;
            let compute = Compute::new(&device, own_threads(config.threads, group))?;
            Self::load_alone(config, &compute.in_precision(config.precision.into())?, quiet, group)
        };
        let (local_rank, _) = group.local_rank();
        let early = group.all_ok(if local_rank == 0 { load().map(Some) } else { Ok(None) })?;
        let own = match early {
            Some(components) => Ok(components),
            None => load(),
        };
        let own = group.all_ok(own)?;
        let same = group.broadcast(own.identity.fingerprint())? == own.identity.fingerprint();
        match group.all_gather(&same)?.iter().position(|same| !same) {
            Some(rank) => group.all_ok(Err(FitError::OtherRun { rank })),
            None => Ok(own),
        }
    }

    fn load_alone(
        config: &Config,
        compute: &Compute,
        quiet: bool,
        group: &Arc<ProcessGroup>,
    ) -> Result<Self, FitError> {
        let mut classifier = ExplainedClassifier::load(config, compute, quiet)?;
        let extractor = &classifier.extractor;
        let (preprocessing, classes) = (&extractor.preprocessing, extractor.backbone.spec().classes);
        let head = head_config(config, &classifier)?;
        let [train, valid] = image_sets(config, preprocessing)?;
        let labelled = || Some(train.classes().to_vec()).filter(|names| names.len() == classes);
        classifier.class_names = classifier.class_names.or_else(labelled);
        let auxiliary = classifier.extractor.auxiliary.as_ref().map(|auxiliary| auxiliary.backbone.spec());
        let specs = [Some(classifier.extractor.backbone.spec()), auxiliary].into_iter().flatten();
        let weights: String = specs.filter_map(|spec| spec.weights_sha256.as_deref()).collect();
        let identity = RunIdentity::new(config, weights, train.len(), train.digest());
        let cache = config.data.cache.then(|| {
            let path = config.output_dir().join("clean.cache");
            Arc::new(CleanCache::new(path, identity.fingerprint()))
        });
        let synchronised = !group.is_single() && config.distributed.sync_batch_norm;
        let context = Context {
            extractor: classifier.extractor.clone(),
            device: compute.device.clone(),
            group: group.clone(),
            sync: synchronised.then(|| SyncBatchNorm::new(group.clone())),
            cache,
        };
        Ok(Self { classifier, context, head, train, valid, identity })
    }
}

/// The shape of the head.
fn head_config(config: &Config, classifier: &ExplainedClassifier) -> Result<AnyHeadConfig, FitError> {
    let extractor = &classifier.extractor;
    let (classes, side) = (extractor.backbone.spec().classes, extractor.preprocessing.crop);
    let method = config.explainer.method();
    let explainer = config.explainer.learned().ok_or(FitError::NoHead { method })?;
    let key = if method.requirements().auxiliary { "auxiliary.taps" } else { "backbone.taps" };
    explainer.shape(&extractor.tap_specs(), classes, side).map_err(|source| FitError::Shape { key, source })
}

/// How training images are read.
pub(super) fn training(config: &Config, batch_size: usize, epochs: usize) -> LoaderOptions {
    let has = |augment| config.data.augment.contains(&augment);
    let mut plan = LoaderOptions::training(batch_size, epochs, config.train.seed);
    plan.augment = data::Augment { crop: has(Augment::RandomCrop), flip: has(Augment::Flip) };
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// How validation images are read.
pub(super) fn validation(config: &Config) -> LoaderOptions {
    let mut plan = LoaderOptions::validation(config.train.batch_size);
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// The images of a validation: all, or a seeded sample of `train.validate_images`.
pub(super) fn validation_images(config: &Config, valid: &Arc<dyn ImageSet>) -> Arc<dyn ImageSet> {
    match config.train.validate_images {
        Some(count) if count < valid.len() => Arc::new(Subset::sample(valid.clone(), count, config.train.seed)),
        _ => valid.clone(),
    }
}

/// Training and validation images.
pub(super) fn image_sets(config: &Config, preprocessing: &Preprocessing) -> Result<[Arc<dyn ImageSet>; 2], FitError> {
    let (data, seed) = (&config.data, config.train.seed);
    Ok([
        images(&data.train, data.train_images, Split::Train, seed, preprocessing)?,
        images(&data.val, data.val_images, Split::Val, seed, preprocessing)?,
    ])
}

fn images(
    place: &str,
    count: Option<usize>,
    split: Split,
    seed: u64,
    preprocessing: &Preprocessing,
) -> Result<Arc<dyn ImageSet>, FitError> {
    if place == Data::SHAPES {
        if preprocessing.crop != SIDE {
            return Err(FitError::Shapes { expected: SIDE, found: preprocessing.crop });
        }
        return Ok(Arc::new(Scenes::new(split, count.unwrap_or(1024), seed)));
    }
    let set = data::open(Path::new(place), preprocessing)?;
    Ok(match count {
        Some(count) if count < set.len() => Arc::new(Subset::sample(set, count, seed)),
        _ => set,
    })
}
