//! BEE with its classifier: an image and a class to the best of several maps for a metric.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use explainer_metrics::{BeeMetrics, ImageBatch, MetricInput};
use explainer_zoo::artifact::BackboneMatch;
use explainer_zoo::artifact::bee::BeeArtifact;
use explainer_zoo::backbone::{Backbone, CountedBackbone, Passes, check_failures};
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Cost, Explain, ExplainBatch, ExplainError, Explanations, Targets, load};
use explainer_zoo::explainer::bee::{Bee, Best, Encoder, Mode, RewardMetric};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::{POINTS_PER_CALL, PathIntegral, PathLayer};
use explainer_zoo::weights::source::Progress;

use super::options::{BeeOptions, OpenError, WeightOverrides};

/// A backbone that counts its passes.
type Counted = Arc<CountedBackbone<Arc<dyn Backbone>>>;

/// BEE with all that it needs to explain, for one metric.
///
/// Its passes are counted over the whole explainer: calls from several threads at once share the count.
#[derive(Debug)]
pub struct BeeExplainer {
    /// The mixtures, and their description.
    pub artifact: BeeArtifact,
    /// BEE on the classifier.
    pub bee: Bee,
    /// Whether the classifiers are those of the training; [`BackboneMatch::Unverified`] deserves a warning.
    pub matched: Vec<BackboneMatch>,
    metrics: BeeMetrics,
    compute: Compute,
    metric: RewardMetric,
    draws: usize,
    mode: Mode,
    counted: Counted,
    counted_context: Option<Counted>,
}

impl BeeExplainer {
    /// Opens the artifact in `folder` and loads its classifiers, from where `weights` says, otherwise from the places that
    /// the artifact names. `progress` receives the bytes of downloads.
    ///
    /// # Errors
    /// [`OpenError::MetricNeeded`] and [`OpenError::NoMixture`] for the metric, [`OpenError::Explain`] for the rest; weights
    /// with another SHA-256 than those of the training are refused.
    pub fn open(
        folder: &Path,
        weights: &WeightOverrides,
        options: BeeOptions,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Self, OpenError> {
        let artifact = BeeArtifact::load(folder, &compute.device).map_err(ExplainError::from)?;
        let metric = options.metric(&artifact.config.metrics)?;
        artifact.mixtures.of(metric).map_err(OpenError::NoMixture)?;
        let draws = options.draws.unwrap_or(artifact.config.draws);
        let metrics =
            BeeMetrics::new(&artifact.config.metrics, artifact.config.curve_steps).map_err(ExplainError::method)?;
        let loaded = Classifiers::load(&artifact, weights, compute, progress)?;
        let Classifiers { bee, counted, counted_context, matched } = loaded;
        let (compute, mode) = (compute.clone(), options.mode);
        Ok(Self { artifact, bee, matched, metrics, compute, metric, draws, mode, counted, counted_context })
    }

    /// The context's features of an image `[1,3,H,W]` in 0..=1.
    pub fn features(&self, pixels: Tensor<4>) -> Vec<f64> {
        let preprocessing = &self.artifact.config.preprocessing;
        self.bee.encoder().encode(&preprocessing.normalise(pixels), preprocessing).pop().unwrap_or_default()
    }

    /// What the maps depend on besides the artifact: metric, draws and family.
    pub(super) fn settings(&self) -> String {
        format!("{}, {} draws{}", self.metric, self.draws, self.family())
    }

    fn family(&self) -> String {
        match self.mode {
            Mode::Fixed(family) => format!(" from the family {family}"),
            Mode::FineTuned => ", fine-tuned on the image".into(),
            Mode::Pretrained => String::new(),
        }
    }

    /// Passes through the classifier, and through a context classifier of its own, since the explainer was opened.
    fn passes(&self) -> [Passes; 2] {
        let context = self.counted_context.as_ref().map(|counted| counted.passes());
        [self.counted.passes(), context.unwrap_or_default()]
    }

    /// The cost of what has been computed since `start`, when the passes were `before`.
    fn cost_since(&self, start: Instant, before: [Passes; 2]) -> Cost {
        let [own, context] = self.passes();
        let (own, context) = (own - before[0], context - before[1]);
        let seconds = start.elapsed().as_secs_f64();
        Cost { forward: own.forward, backward: own.backward, second: context.forward, seconds }
    }

    /// The best map of one class of an image, a batch of 1.
    fn best(&self, batch: &ExplainBatch, class: usize) -> Result<Best, ExplainError> {
        let backbone = self.bee.backbone();
        let mixture = self.artifact.mixtures.of(self.metric)?;
        let seen = self.bee.clean_pass(batch.images.clone(), Some(&[class]));
        let preprocessing = &self.artifact.config.preprocessing;
        let (images, logits) = (batch.images.clone(), seen.logits.clone());
        let measured = ImageBatch::new(backbone.as_ref(), preprocessing, images, logits, vec![class]);
        let measured = measured.map_err(ExplainError::method)?;
        let score = |maps: &Tensor<4>| {
            let attributions = MetricInput::for_images(&measured, maps.clone(), vec![0; maps.dims()[0]]);
            let scores = attributions.and_then(|attributions| self.metrics.measure(self.metric, &attributions));
            scores.map_err(ExplainError::method)
        };
        let best = self.bee.explain(mixture, &seen, 0, self.draws, self.mode, score);
        // Where a classifier could not compute, it is the reason for every other error.
        check_failures([backbone, self.bee.encoder().backbone()])?;
        best
    }

    /// The maps `[B,k,h,w]` of the classes of each image, with [`Explain::details`] of each map.
    fn draw(
        &self,
        batch: &ExplainBatch,
        classes: &[Vec<usize>],
    ) -> Result<(Tensor<4>, Vec<Vec<String>>), ExplainError> {
        let (mut images, mut details) = (Vec::new(), Vec::new());
        for (place, classes) in classes.iter().enumerate() {
            let image = batch.image(place);
            let mut maps = Vec::new();
            for class in classes {
                let Best { map, score, family, .. } = self.best(&image, *class)?;
                maps.push(map);
                details.push(vec![format!("{score:.4}"), family.to_string()]);
            }
            if maps.is_empty() {
                return Err(ExplainError::NoMap);
            }
            images.push(Tensor::cat(maps, 1));
        }
        if images.is_empty() { Err(ExplainError::NoMap) } else { Ok((Tensor::cat(images, 0), details)) }
    }
}

impl Explain for BeeExplainer {
    fn name(&self) -> String {
        format!("BEE for {}, the best of {} draws{}", self.metric, self.draws, self.family())
    }

    fn backbone(&self) -> &Arc<dyn Backbone> {
        self.bee.backbone()
    }

    fn preprocessing(&self) -> &Preprocessing {
        &self.artifact.config.preprocessing
    }

    fn device(&self) -> Device {
        self.compute.device.clone()
    }

    fn maps(&self, batch: &ExplainBatch, classes: &[Vec<usize>]) -> Result<(Tensor<4>, Cost), ExplainError> {
        let (start, before) = (Instant::now(), self.passes());
        let (maps, _) = self.draw(batch, classes)?;
        Ok((maps, self.cost_since(start, before)))
    }

    fn explain_batch(&self, batch: &ExplainBatch, targets: Targets<'_>) -> Result<Explanations, ExplainError> {
        let (start, before) = (Instant::now(), self.passes());
        let logits = self.backbone().forward(batch.images.clone(), &[]).logits;
        check_failures([self.backbone()])?;
        let mut details = Vec::new();
        let explained = Explanations::of(batch, logits, targets, |classes| {
            let (maps, found) = self.draw(batch, classes)?;
            details = found;
            Ok((maps, self.cost_since(start, before)))
        })?;
        Ok(Explanations { details, ..explained })
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn class_names(&self) -> Option<&[String]> {
        self.artifact.config.class_names.as_deref()
    }

    fn details(&self) -> Vec<String> {
        vec![self.metric.to_string(), "baseline".into()]
    }

    fn batch_size(&self) -> usize {
        1
    }
}

/// BEE on its classifiers, loaded.
struct Classifiers {
    bee: Bee,
    counted: Counted,
    counted_context: Option<Counted>,
    matched: Vec<BackboneMatch>,
}

impl Classifiers {
    fn load(
        artifact: &BeeArtifact,
        weights: &WeightOverrides,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Self, ExplainError> {
        let config = &artifact.config;
        let (prepared, place) = (Some(&config.preprocessing), weights.backbone.as_deref());
        let backbone = load(&config.backbone, place, prepared, "--weights", compute, progress)?;
        let mut matched = vec![config.verify_backbone(backbone.spec())?];
        let counted = Arc::new(CountedBackbone::new(backbone));
        let backbone: Arc<dyn Backbone> = counted.clone();
        let mut counted_context = None;
        let side = config.preprocessing.crop;
        let encoder: Arc<dyn Backbone> = match &config.context {
            None if weights.second.is_some() => return Err(ExplainError::NoContext),
            None => backbone.clone(),
            Some(record) => {
                let place = weights.second.as_deref();
                let context = load(record, place, None, "--context-weights", compute, progress)?;
                matched.push(config.verify_context(context.spec())?);
                let context = Arc::new(CountedBackbone::new(context));
                counted_context = Some(context.clone());
                context
            }
        };
        let encoder = Encoder::new(encoder, side)?;
        if let Some(mixture) = artifact.mixtures.iter().next() {
            mixture.check(encoder.features())?;
        }
        let site = |name: &String| PathLayer::named(backbone.as_ref(), name, side);
        let sites = config.sites.iter().map(site).collect::<Result<Vec<_>, _>>()?;
        let integral = PathIntegral { steps: config.steps, rectify: true, points_per_call: POINTS_PER_CALL };
        let references = config.preprocessing.normalise(artifact.references.clone());
        let bee = Bee::new(backbone, sites, &references, encoder, integral, config.seed)?;
        Ok(Self { bee, counted, counted_context, matched })
    }
}
