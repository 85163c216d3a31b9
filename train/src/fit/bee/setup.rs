//! What a run of BEE is made of: classifiers, sites, metrics and images; measuring and export.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use explainer_zoo::artifact::BackboneRecord;
use explainer_zoo::artifact::bee::{BeeArtifact, BeeConfig};
use explainer_zoo::backbone;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{
    BaselineDistribution, BaselineDraw, Bee, BeeSection, CleanPass, Encoder, MixtureConfig, Mixtures, RewardMetric,
    SplitMix64,
};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{POINTS_PER_CALL, PathIntegral, PathLayer};
use explainer_zoo::weights::source::Progress;

use super::super::checkpoint::State;
use super::super::classifier::{class_names, open_backbone, preprocessing};
use super::super::setup::{image_sets, validation};
use super::{FitError, Measured};
use crate::config::Config;
use crate::data::{Batch, ImageSet, Loader, LoaderOptions, Subset};
use crate::report::progress::with_download_bar;
use explainer_metrics::{BeeMetrics, ImageBatch, MetricError, MetricInput};

/// Everything a run is made of, loaded and checked.
pub(super) struct Setup {
    pub(super) bee: Bee,
    preprocessing: Preprocessing,
    pub(super) scores: BeeMetrics,
    metrics: Vec<RewardMetric>,
    sites: Vec<String>,
    class_names: Option<Vec<String>>,
    context: Option<BackboneRecord>,
    /// SHA-256 of the classifiers' weights.
    pub(super) weights: String,
    /// Training images for baselines, `[M,3,H,W]` in 0..1.
    references: Tensor<4>,
    seed: u64,
    device: Device,
    pub(super) train: Arc<dyn ImageSet>,
    pub(super) valid: Arc<dyn ImageSet>,
}

impl Setup {
    pub(super) fn new(config: &Config, section: &BeeSection, compute: &Compute, quiet: bool) -> Result<Self, FitError> {
        let wanted = &config.backbone;
        let backbone = open_backbone(wanted, compute, quiet)?;
        let spec = backbone.spec();
        let preprocessing = preprocessing(&config.data, backbone.as_ref())?;
        let class_names = class_names(wanted, spec.classes)?;
        let own = || vec![spec.default_taps.last().map_or(PathLayer::IMAGE, String::as_str).to_owned()];
        let names = section.sites.clone().unwrap_or_else(own);
        let site = |name: &String| PathLayer::named(backbone.as_ref(), name, preprocessing.crop);
        let sites = names.iter().map(site).collect::<Result<Vec<_>, _>>()?;
        let mut weights = spec.weights_sha256.clone().unwrap_or_default();
        let (encoder, context) = match &section.context {
            None => (backbone.clone(), None),
            Some(context) => {
                let (name, place, sha256) = (&context.name, &context.weights, context.sha256.as_deref());
                let load = |progress: &mut Progress<'_>| backbone::open(name, place, sha256, None, compute, progress);
                let other = with_download_bar(quiet, load)?;
                weights.extend(other.spec().weights_sha256.clone());
                let record = BackboneRecord::new(other.spec(), &context.weights);
                (other, Some(record))
            }
        };
        let encoder = Encoder::new(encoder, preprocessing.crop)?;
        let metrics = section.metrics();
        let scores = BeeMetrics::new(&metrics, section.curve_steps)?;
        let [train, valid] = image_sets(config, &preprocessing)?;
        let named = || Some(train.classes().to_vec()).filter(|names| names.len() == spec.classes);
        let class_names = class_names.or_else(named);
        let seed = config.train.seed;
        let references = references(&train, section.references, seed, validation(config), &compute.device)?;
        let integral = PathIntegral { steps: section.steps, rectify: true, points_per_call: POINTS_PER_CALL };
        let normalised = preprocessing.normalise(references.clone());
        let bee = Bee::new(backbone.clone(), sites, &normalised, encoder, integral, seed)?;
        Ok(Self {
            bee,
            preprocessing,
            scores,
            metrics,
            sites: names,
            class_names,
            context,
            weights,
            references,
            seed,
            device: compute.device.clone(),
            train,
            valid,
        })
    }

    pub(super) fn prior(&self, section: &BeeSection, seed: u64) -> Mixtures {
        let shape = MixtureConfig {
            dimensions: section.dimensions,
            features: self.bee.encoder().features(),
            theta_precision: section.theta_precision,
            history: section.history,
        };
        Mixtures::prior(&self.metrics, &shape, seed)
    }

    /// Returns the first failure of the classifiers since the last check.
    pub(super) fn check_failures(&self) -> Result<(), FitError> {
        Ok(backbone::check_failures([self.bee.backbone(), self.bee.encoder().backbone()])?)
    }

    pub(super) fn clean_pass(&self, batch: &Batch) -> CleanPass {
        self.bee.clean_pass(self.preprocessing.normalise(batch.images(&self.device)), None)
    }

    pub(super) fn subject<'a>(&'a self, seen: &CleanPass) -> Result<ImageBatch<'a>, MetricError> {
        let (images, logits, classes) = (seen.images.clone(), seen.logits.clone(), seen.classes.clone());
        ImageBatch::new(self.bee.backbone().as_ref(), &self.preprocessing, images, logits, classes)
    }

    /// What one draw from each mixture scores on images it has not learned from, beside one draw from families that are
    /// all equally likely; none where the run is stopped meanwhile.
    pub(super) fn measure(
        &self,
        mixtures: &Mixtures,
        images: Arc<dyn ImageSet>,
        plan: LoaderOptions,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Measured>>, FitError> {
        let mut sums: BTreeMap<RewardMetric, (f64, f64, usize)> = BTreeMap::new();
        let mut number = 0;
        for batch in Loader::new(images, plan, 0)? {
            if stopped() {
                return Ok(None);
            }
            let seen = self.clean_pass(&batch?);
            let subject = self.subject(&seen)?;
            for image in 0..seen.features.len() {
                let (learned, uniform) = self.choices(mixtures, &seen, image, number)?;
                let mut families: Vec<BaselineDistribution> =
                    learned.iter().map(|(_, family)| *family).chain([uniform]).collect();
                families.sort_unstable();
                families.dedup();
                let pick = |family: &BaselineDistribution| BaselineDraw {
                    image,
                    family: *family,
                    purpose: "validate",
                    number,
                };
                let picks: Vec<BaselineDraw<'_>> = families.iter().map(pick).collect();
                let maps = self.bee.maps(&seen, &picks);
                let of = |family: BaselineDistribution| families.partition_point(|other| *other < family);
                for (metric, family) in learned {
                    let pair = [family, uniform].map(|family| maps.clone().narrow(0, of(family), 1));
                    let case = MetricInput::for_images(&subject, Tensor::cat(pair.to_vec(), 0), vec![image; 2])?;
                    if let [Some(own), Some(other)] = self.scores.measure(metric, &case)?[..] {
                        let sum = sums.entry(metric).or_default();
                        *sum = (sum.0 + own, sum.1 + other, sum.2 + 1);
                    }
                }
                number += 1;
            }
            self.check_failures()?;
        }
        let mean = |(metric, (own, other, images)): (RewardMetric, (f64, f64, usize))| {
            let count = images as f64;
            Measured { metric, learned: own / count, uniform: other / count, images }
        };
        Ok(Some(sums.into_iter().map(mean).collect()))
    }

    /// The family that each mixture draws for an image, and one that every family has the same chance to be.
    fn choices(
        &self,
        mixtures: &Mixtures,
        seen: &CleanPass,
        image: usize,
        number: u64,
    ) -> Result<(Vec<(RewardMetric, BaselineDistribution)>, BaselineDistribution), FitError> {
        let features = seen.features.get(image).map_or(&[][..], Vec::as_slice);
        let mut learned = Vec::new();
        for mixture in mixtures.iter() {
            let metric = mixture.metric();
            let stream = &mut SplitMix64::new(self.seed, "bee choice, validate", &[metric as u64, number]);
            learned.push((metric, mixture.choose(features, stream)?));
        }
        let drawn = SplitMix64::new(self.seed, "bee uniform, validate", &[number]).below(BaselineDistribution::COUNT);
        Ok((learned, BaselineDistribution::ALL.get(drawn).copied().unwrap_or(BaselineDistribution::Normal)))
    }

    pub(super) fn export(
        &self,
        config: &Config,
        section: &BeeSection,
        state: &State,
        mixtures: &Mixtures,
        measured: &[Measured],
        output: &Path,
    ) -> Result<PathBuf, FitError> {
        let spec = self.bee.backbone().spec();
        let mut about = BeeConfig::new(spec, &config.backbone.weights, self.sites.clone(), mixtures.metrics());
        about.class_names.clone_from(&self.class_names);
        about.context.clone_from(&self.context);
        (about.steps, about.draws, about.curve_steps) = (section.steps, section.draws, section.curve_steps);
        (about.seed, about.preprocessing) = (self.seed, self.preprocessing.clone());
        about.figures.insert("training steps".into(), state.steps_made() as f64);
        about.figures.insert("training seconds".into(), state.seconds.round());
        about.figures.insert("training images".into(), self.train.len() as f64);
        for Measured { metric, learned, uniform, images } in measured {
            about.figures.insert(format!("{metric}, learned mixture"), *learned);
            about.figures.insert(format!("{metric}, uniform mixture"), *uniform);
            about.figures.insert(format!("{metric}, validation images"), *images as f64);
        }
        let folder = output.join("artifact");
        let artifact = BeeArtifact { config: about, mixtures: mixtures.clone(), references: self.references.clone() };
        artifact.save(&folder, &config.to_yaml().unwrap_or_default())?;
        Ok(folder)
    }
}

/// The first `count` readable training images after a seeded shuffle, cropped at the centre: `[M,3,H,W]` in 0..1.
fn references(
    train: &Arc<dyn ImageSet>,
    count: usize,
    seed: u64,
    plan: LoaderOptions,
    device: &Device,
) -> Result<Tensor<4>, FitError> {
    let some: Arc<dyn ImageSet> = Arc::new(Subset::sample(train.clone(), count, seed));
    let plan = LoaderOptions { batch_size: some.len().max(1), max_broken: 1.0, ..plan };
    let mut loader = Loader::new(some, plan, 0)?;
    match loader.next() {
        Some(batch) => Ok(batch?.images(device)),
        None => {
            let first = loader.broken_images().files().next().map(|broken| broken.reason.clone());
            Err(FitError::NothingRead(first.unwrap_or_default()))
        }
    }
}
