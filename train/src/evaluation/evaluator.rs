//! Images in, values of every metric out, batch by batch.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Tensor;
use explainer_metrics::{
    Confidence, GroundTruth, ImageBatch, MaskedConfidence, Metric, MetricError, MetricInput, MetricSpec, Requirement,
};
use explainer_zoo::backbone::{Backbone, BackboneError, check_failures};
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Cost, Explain, ExplainBatch, ExplainError, Explanations, Targets};

use super::curve::Curve;
use super::explain_fn::ExplainerFn;
use crate::data::{BrokenImages, DataError, EvaluationSet, Loader, LoaderOptions, Objects, Subset};

/// An explainer under evaluation.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The explainer.
    pub explainer: Arc<dyn Explain>,
    /// The explainer at each stage of the cascading randomisation; empty if no metric needs it.
    pub randomised: Vec<Arc<dyn Explain>>,
}

impl Candidate {
    /// An explainer, and the same explainer of each of the `randomised` classifiers, if it can explain them.
    pub fn new(explainer: Arc<dyn Explain>, randomised: &[Arc<dyn Backbone>]) -> Self {
        let stages = randomised.iter().map(|backbone| explainer.with_backbone(backbone.clone()));
        Self { randomised: stages.collect::<Option<_>>().unwrap_or_default(), explainer }
    }
}

/// Whether a metric needs classifiers with randomised weights.
#[must_use]
pub fn needs_randomised(metrics: &[MetricSpec]) -> bool {
    metrics.iter().any(|metric| metric.needs == Requirement::Randomised)
}

/// What explainers are evaluated with.
#[derive(Debug)]
pub struct Evaluator<'a> {
    /// The metrics, in the order of the values.
    pub metrics: &'a [Box<dyn Metric>],
    /// Percentages of the pixels for [`ImageResult::confidence`].
    pub masked: &'a MaskedConfidence,
    /// The images.
    pub images: &'a EvaluationSet,
    /// Annotations of the images.
    pub objects: &'a Objects,
    /// Where to compute.
    pub compute: &'a Compute,
    /// Images at a time, whole or perturbed.
    pub batch_size: NonZeroUsize,
}

/// The values of one image.
#[derive(Clone, Debug)]
pub struct ImageResult {
    /// Its index in the set.
    pub index: usize,
    /// The predicted class, which is explained.
    pub class: usize,
    /// The probability of the class, for the image and for the image masked by its map.
    pub confidence: Confidence,
    /// One value per metric; `None` where it is undefined.
    pub values: Vec<Option<f64>>,
}

/// The values of one explainer on a batch.
#[derive(Clone, Debug)]
pub struct BatchResult {
    /// The images.
    pub images: Vec<ImageResult>,
    /// Sums of the images' curves by metric, for metrics that are the area under one.
    pub curves: BTreeMap<String, Curve>,
    /// What the explanations cost.
    pub cost: Cost,
}

/// Why explainers cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// An image cannot be explained.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// A map cannot be measured.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Images or annotations cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<BackboneError> for EvaluationError {
    fn from(error: BackboneError) -> Self {
        Self::Explain(error.into())
    }
}

impl Evaluator<'_> {
    /// Evaluates `candidates`, explainers of one classifier, on the images `indices` of the set, in this order. The first
    /// one's predicted classes are explained by all. `each` receives the results of a batch, one per candidate, and the
    /// images that could not be read so far, numbered as `indices` are; it may stop the evaluation. At most the share
    /// `max_broken` of the images may be unreadable. Returns the unreadable images.
    ///
    /// # Errors
    /// [`EvaluationError`], or the error of `each`.
    pub fn run<E: From<EvaluationError>>(
        &self,
        candidates: &[&Candidate],
        indices: Vec<usize>,
        max_broken: f64,
        mut each: impl FnMut(Vec<BatchResult>, &BrokenImages) -> Result<ControlFlow<()>, E>,
    ) -> Result<BrokenImages, E> {
        let part = Arc::new(Subset::new(self.images.any(), indices));
        let plan = LoaderOptions {
            workers: self.compute.threads,
            max_broken,
            ..LoaderOptions::validation(self.batch_size.get())
        };
        let mut loader = Loader::new(part.clone(), plan, 0).map_err(EvaluationError::from)?;
        while let Some(batch) = loader.next() {
            let batch = batch.map_err(EvaluationError::from)?;
            let indices: Vec<usize> = batch.indices.iter().filter_map(|index| part.parent_index(*index)).collect();
            let results = self.batch(candidates, batch.images(&self.compute.device), &indices)?;
            if each(results, loader.broken_images())?.is_break() {
                break;
            }
        }
        Ok(loader.broken_images().clone())
    }

    /// Evaluates on one batch of pixels `[B,3,H,W]` in 0..=1, which are the images `indices` of the set.
    fn batch(
        &self,
        candidates: &[&Candidate],
        pixels: Tensor<4>,
        indices: &[usize],
    ) -> Result<Vec<BatchResult>, EvaluationError> {
        let Some(first) = candidates.first() else { return Ok(Vec::new()) };
        let (backbone, preprocessing) = (first.explainer.backbone(), first.explainer.preprocessing());
        let batch = ExplainBatch::from_pixels(pixels, preprocessing);
        let Explanations { logits, classes, maps, cost, .. } =
            first.explainer.explain_batch(&batch, Targets::Top(1))?;
        let truth: Vec<GroundTruth> = indices
            .iter()
            .map(|index| self.images.truth(*index, self.objects, preprocessing))
            .collect::<Result<_, _>>()?;
        let images = ImageBatch::new(backbone.as_ref(), preprocessing, batch.images.clone(), logits, classes.concat())?;
        let images = images.with_ground_truth(truth)?.with_batch_size(self.batch_size);
        let mut made = Some((maps, cost));
        let mut results = Vec::new();
        for candidate in candidates {
            let (maps, cost) = match made.take() {
                Some(first) => first,
                None => candidate.explainer.maps(&batch, &classes)?,
            };
            let measured = self.measure(candidate, &images, indices, maps, cost);
            // Where the classifier could not compute, it is the reason for every other error.
            check_failures([backbone])?;
            results.push(measured?);
        }
        Ok(results)
    }

    /// Measures the maps `[B,1,h,w]` of one candidate.
    fn measure(
        &self,
        candidate: &Candidate,
        images: &ImageBatch<'_>,
        indices: &[usize],
        maps: Tensor<4>,
        cost: Cost,
    ) -> Result<BatchResult, EvaluationError> {
        let Candidate { explainer, randomised } = candidate;
        let further = ExplainerFn { explainer: explainer.as_ref(), randomised };
        let mut attributions = MetricInput::new(images, maps)?;
        if explainer.is_repeatable() {
            attributions = attributions.with_explainer(&further);
        }
        let columns = self.metrics.iter().map(|metric| metric.measure(&attributions)).collect::<Result<Vec<_>, _>>()?;
        let confidences = self.masked.confidences(&attributions);
        let result = |(place, ((index, class), confidence)): (usize, ((&usize, &usize), Confidence))| ImageResult {
            index: *index,
            class: *class,
            confidence,
            values: columns.iter().map(|column| column.get(place).copied().flatten()).collect(),
        };
        let results = indices.iter().zip(images.classes()).zip(confidences).enumerate().map(result).collect();
        Ok(BatchResult { images: results, curves: curves(self.metrics, &attributions), cost })
    }
}

/// Sums of the curves of all maps whose curve is finite, by metric.
fn curves(metrics: &[Box<dyn Metric>], attributions: &MetricInput<'_>) -> BTreeMap<String, Curve> {
    let sum = |metric: &dyn Metric| {
        let curves = metric.curves(attributions)?;
        let mut sum = Curve::default();
        let finite = curves.iter().zip(attributions.finite()).filter(|(_, finite)| **finite).map(|(curve, _)| curve);
        for curve in finite.filter(|curve| curve.iter().all(|score| score.is_finite())) {
            sum.add(&Curve { sum: curve.clone(), images: 1 });
        }
        Some((metric.spec().name, sum))
    };
    metrics.iter().filter_map(|metric| sum(metric.as_ref())).collect()
}
