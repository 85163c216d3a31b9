//! A BEE explainer together with its classifier: an image, a class and a metric to the best of several maps.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use explainer_zoo::artifact::BackboneMatch;
use explainer_zoo::artifact::bee::BeeArtifact;
use explainer_zoo::backbone::{Backbone, check_failures};
use explainer_zoo::backbone::{CountedBackbone, Passes};
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{Bee, Encoder, Family, Metric, Mode};
use explainer_zoo::path_integral::{POINTS_PER_CALL, PathIntegral, Site};
use explainer_zoo::weights::source::Progress;

use super::{ClassMap, ExplainError, Target, load};
use crate::report::heat_map::HeatMap;
use explainer_metrics::{Attributions, BeeMetrics, ImageBatch};

/// Where weights are that are no longer at the places that the artifact names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The explained classifier's.
    pub backbone: Option<&'a str>,
    /// The context's.
    pub context: Option<&'a str>,
}

/// A classifier, and the count of what goes through it.
type Through = Arc<CountedBackbone<Arc<dyn Backbone>>>;

/// A BEE explainer and all that it needs to explain.
#[derive(Debug)]
pub struct LoadedBee {
    /// What was learned, and its description.
    pub artifact: BeeArtifact,
    /// BEE on the classifier.
    pub bee: Bee,
    /// What scores its maps.
    pub scores: BeeMetrics,
    /// Where all of it is computed.
    pub compute: Compute,
    /// What goes through the classifier.
    counted: Through,
    /// What goes through the context's own classifier, if there is one.
    counted_context: Option<Through>,
    /// How surely the classifiers are those that the explainer was trained on; what is unverified deserves a warning.
    pub matched: Vec<BackboneMatch>,
}

/// The best map of one class of an image, and how it came about.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The map.
    pub map: ClassMap,
    /// What it scores.
    pub score: f64,
    /// The family of its baseline.
    pub family: Family,
    /// How often each of [`Family::ALL`] was played.
    pub plays: [usize; Family::COUNT],
}

impl LoadedBee {
    /// Opens the artifact in `folder` and loads its classifiers, from where `moved` says, otherwise from the places that
    /// the artifact names. `progress` is told of downloads.
    ///
    /// # Errors
    /// Any of [`ExplainError`] but `NoClass`; weights with another SHA-256 than those of the training are refused.
    pub fn open(
        folder: &Path,
        moved: Moved<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Self, ExplainError> {
        let artifact = BeeArtifact::load(folder, &compute.device)?;
        let config = &artifact.config;
        let prepared = Some(&config.preprocessing);
        let backbone = load(&config.backbone, moved.backbone, prepared, "--weights", compute, progress)?;
        let mut matched = vec![config.verify_backbone(backbone.spec())?];
        let counted = Arc::new(CountedBackbone::new(backbone));
        let backbone: Arc<dyn Backbone> = counted.clone();
        let mut counted_context = None;
        let side = config.preprocessing.crop;
        let encoder: Arc<dyn Backbone> = match &config.context {
            None if moved.context.is_some() => return Err(ExplainError::NoContext),
            None => backbone.clone(),
            Some(record) => {
                let context = load(record, moved.context, None, "--context-weights", compute, progress)?;
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
        let site = |name: &String| Site::named(backbone.as_ref(), name, side);
        let sites = config.sites.iter().map(site).collect::<Result<Vec<_>, _>>()?;
        let integral = PathIntegral { steps: config.steps, rectify: true, points_per_call: POINTS_PER_CALL };
        let references = config.preprocessing.normalise(artifact.references.clone());
        let scores = BeeMetrics::new(&config.metrics, config.curve_steps)?;
        let bee = Bee::new(backbone, sites, &references, encoder, integral, config.seed)?;
        Ok(Self { artifact, bee, scores, compute: compute.clone(), counted, counted_context, matched })
    }

    /// What has gone through the classifier, and through a context of its own, since the explainer was opened: to draw
    /// maps, to score them and to choose classes.
    #[must_use]
    pub fn passes(&self) -> [Passes; 2] {
        let context = self.counted_context.as_ref().map(|counted| counted.passes());
        [self.counted.passes(), context.unwrap_or_default()]
    }

    /// The context's features of an image `[1,3,H,W]` in 0..=1.
    pub fn features(&self, pixels: Tensor<4>) -> Vec<f64> {
        let preprocessing = &self.artifact.config.preprocessing;
        self.bee.encoder().encode(&preprocessing.normalise(pixels), preprocessing).pop().unwrap_or_default()
    }

    /// Explains an image `[1,3,H,W]` in 0..=1, cropped as the artifact's preprocessing has it: for each class the best
    /// of `draws` maps for `metric`.
    ///
    /// # Errors
    /// [`ExplainError::NoClass`]; [`ExplainError::Bee`] for a metric without a mixture, and for one that is undefined
    /// on every map.
    pub fn explain(
        &self,
        pixels: Tensor<4>,
        which: Target,
        metric: Metric,
        draws: usize,
        mode: Mode,
    ) -> Result<Vec<Drawn>, ExplainError> {
        let config = &self.artifact.config;
        let mixture = self.artifact.mixtures.of(metric)?;
        if let Target::Class(class) = which
            && class >= config.classes
        {
            return Err(ExplainError::NoClass { class, classes: config.classes });
        }
        let images = config.preprocessing.normalise(pixels);
        let logits = self.bee.backbone().forward(images.clone(), &[]).logits;
        let probabilities: Vec<f32> = softmax(logits, 1).into_data().iter::<f32>().collect();
        let mut explained = Vec::new();
        for class in which.of(&probabilities) {
            let seen = self.bee.see(images.clone(), Some(&[class]));
            let subject = ImageBatch::new(
                self.bee.backbone().as_ref(),
                &config.preprocessing,
                images.clone(),
                seen.logits.clone(),
                vec![class],
            )?;
            let score = |maps: &Tensor<4>| -> Result<_, ExplainError> {
                let case = Attributions::for_images(&subject, maps.clone(), vec![0; maps.dims()[0]])?;
                Ok(self.scores.measure(metric, &case)?)
            };
            let best = self.bee.explain(mixture, &seen, 0, draws, mode, score);
            // Where a classifier could not be asked, whatever went wrong afterwards went wrong for that.
            check_failures([self.bee.backbone(), self.bee.encoder().backbone()])?;
            let best = best?;
            let [_, _, height, width] = best.map.dims();
            let map = HeatMap::new(height, width, best.map.into_data().iter::<f32>().collect())?;
            let probability = probabilities.get(class).copied().unwrap_or(0.0);
            let map = ClassMap { class, probability, map };
            explained.push(Drawn { map, score: best.score, family: best.family, plays: best.plays });
        }
        Ok(explained)
    }
}
