//! What a run is made of, loaded and checked: classifier, head, images, and how they are read.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::device::Compute;
use explainer_zoo::explainer::tame::SyncBatchNorm;
use explainer_zoo::explainer::{AnyHeadConfig, Method, TameConfig};
use explainer_zoo::image::Preprocessing;

use super::FitError;
use super::cache::CleanCache;
use super::classifier::Classifier;
use super::context::{Context, Task};
use super::identity::identity;
use crate::config::{Augment, Config, Data, ExplainerConfig};
use crate::data::shapes::{SIDE, Split};
use crate::data::{self, ImageSet, Plan, Scenes, Subset};
use crate::distributed::{ProcessGroup, own_device, own_threads};

/// The share of a plan that this process reads.
pub(super) fn share(plan: Plan, group: &ProcessGroup) -> Plan {
    Plan { rank: group.rank(), world_size: group.size(), ..plan }
}

/// Everything a run is made of, loaded and checked.
pub(super) struct Setup {
    pub classifier: Classifier,
    pub context: Arc<Context>,
    pub head: AnyHeadConfig,
    pub train: Arc<dyn ImageSet>,
    pub valid: Arc<dyn ImageSet>,
}

impl Setup {
    /// That of one of several processes. The first of each machine goes ahead: what it downloads the others find.
    pub(super) fn together(config: &Config, quiet: bool, group: &Arc<ProcessGroup>) -> Result<Self, FitError> {
        let make = || {
            let device = own_device(&config.device, group)?;
            let compute = Compute::new(&device, own_threads(config.threads, group))?;
            Self::new(config, &compute.in_precision(config.precision.into())?, quiet, group)
        };
        let leads = group.local_rank().0 == 0;
        let ahead = group.all_ok(if leads { make().map(Some) } else { Ok(None) })?;
        let own = match ahead {
            Some(setup) => Ok(setup),
            None => make(),
        };
        group.all_ok(own)
    }

    fn new(config: &Config, compute: &Compute, quiet: bool, group: &Arc<ProcessGroup>) -> Result<Self, FitError> {
        let mut classifier = Classifier::load(config, compute, quiet)?;
        let (preprocessing, classes) = (&classifier.preprocessing, classifier.backbone.spec().classes);
        let head = shape(config, &classifier)?;
        let [train, valid] = sets(config, preprocessing)?;
        let named = || Some(train.classes().to_vec()).filter(|names| names.len() == classes);
        classifier.class_names = classifier.class_names.or_else(named);
        let cache = config.data.cache.then(|| {
            let (backbone, auxiliary) = (&classifier.backbone, classifier.auxiliary.as_ref());
            let run = identity(config, backbone.as_ref(), auxiliary, train.as_ref());
            let path = config.output_dir().join("clean.cache");
            Arc::new(CleanCache::new(path, format!("{} {}", run.configuration, run.images_sha256)))
        });
        let context = Context {
            backbone: classifier.backbone.clone(),
            taps: classifier.ids.clone(),
            adapters: classifier.adapters.clone(),
            auxiliary: classifier.auxiliary.clone(),
            task: Task::of(config), // another phase has another
            device: compute.device.clone(),
            clip_norm: config.optimizer.clip_norm(),
            sync: (!group.is_single() && config.distributed.sync_batch_norm).then(|| SyncBatchNorm::new(group.clone())),
            group: group.clone(),
            cache,
        };
        Ok(Self { classifier, context: Arc::new(context), head, train, valid })
    }
}

/// The shape of the explainer.
fn shape(config: &Config, classifier: &Classifier) -> Result<AnyHeadConfig, FitError> {
    let (taps, classes, side) =
        (&classifier.tap_specs, classifier.backbone.spec().classes, classifier.preprocessing.crop);
    if let ExplainerConfig::MaskingModel(section) = &config.explainer {
        return Ok(section.shape(taps, classes, side)?.into());
    }
    let mut head = match classifier.method {
        Method::Ptame => TameConfig::ptame(taps, classes, side)?,
        _ => TameConfig::ttame(taps, classes, side),
    };
    head.branches = !config.explainer.is_lcam();
    head.fuse_bias = config.explainer.fuse_bias();
    if let Some(side) = config.explainer.map_size() {
        head.map_size = [side; 2];
    }
    Ok(head.into())
}

/// How training images are read, so many a batch.
pub(super) fn training(config: &Config, batch_size: usize, epochs: usize) -> Plan {
    let has = |augment| config.data.augment.contains(&augment);
    let mut plan = Plan::training(batch_size, epochs, config.train.seed);
    plan.augment = data::Augment { crop: has(Augment::RandomCrop), flip: has(Augment::Flip) };
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// How validation images are read.
pub(super) fn validation(config: &Config) -> Plan {
    let mut plan = Plan::validation(config.train.batch_size);
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// The validation images that a validation looks at.
pub(super) fn validated(config: &Config, valid: &Arc<dyn ImageSet>) -> Arc<dyn ImageSet> {
    match config.train.validate_images {
        Some(count) if count < valid.len() => Arc::new(Subset::sample(valid.clone(), count, config.train.seed)),
        _ => valid.clone(),
    }
}

/// Training and validation images.
pub(super) fn sets(config: &Config, preprocessing: &Preprocessing) -> Result<[Arc<dyn ImageSet>; 2], FitError> {
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
