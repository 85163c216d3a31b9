//! A whole evaluation of one explainer, with or without a reference.

use std::ops::ControlFlow;
use std::time::Instant;

use explainer_metrics::{MetricSpec, Results, ResultsError, Row};
use explainer_zoo::explain::Cost;

use super::evaluator::{BatchResult, Candidate, EvaluationError, Evaluator, ImageResult};
use super::report::{MeanPasses, MeasuredImage, ReferenceReport, Report, figures, summaries};
use crate::data::BrokenImages;

/// The values of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The explainer's values of each image.
    pub results: Results,
    /// The reference method's values of each image; empty without one.
    pub reference: Results,
    /// The images with their probabilities, in the order of the results.
    images: Vec<MeasuredImage>,
    reference_cost: Cost,
    metrics: Vec<MetricSpec>,
    percents: Vec<f64>,
    broken: usize,
    seconds: f64,
}

/// Evaluates an explainer on all images, and a reference method on the same images and classes. `progress` is called for
/// every batch with its number of images, and with the images that could not be read so far, of which the share `max_broken` is
/// allowed, 0..=1.
///
/// # Errors
/// [`EvaluationError`].
pub fn evaluate(
    evaluator: &Evaluator<'_>,
    explainer: &Candidate,
    reference: Option<&Candidate>,
    max_broken: f64,
    mut progress: impl FnMut(usize, &BrokenImages),
) -> Result<Evaluation, EvaluationError> {
    let set = evaluator.images.any();
    let metrics: Vec<MetricSpec> = evaluator.metrics.iter().map(|metric| metric.spec()).collect();
    let names: Vec<String> = metrics.iter().map(|metric| metric.name.clone()).collect();
    let empty = || Results { metrics: names.clone(), rows: Vec::new() };
    let (mut results, mut images) = ([empty(), empty()], Vec::new());
    let mut reference_cost = Cost::default();
    let candidates: Vec<&Candidate> = [explainer].into_iter().chain(reference).collect();
    let start = Instant::now();
    let found = evaluator.run(&candidates, (0..set.len()).collect(), max_broken, |batch, found| {
        let count = batch.first().map_or(0, |result| result.images.len());
        for (place, (BatchResult { images: measured, cost, .. }, results)) in
            batch.into_iter().zip(&mut results).enumerate()
        {
            if place > 0 {
                reference_cost += cost;
            }
            for ImageResult { index, class, confidence, values } in measured {
                if place == 0 {
                    let named = names.iter().cloned().zip(values.iter().copied()).collect();
                    images.push(MeasuredImage { name: set.name(index), class, confidence, values: named });
                }
                results.rows.push(Row { image: set.id(index), class, values });
            }
        }
        progress(count, found);
        Ok::<_, EvaluationError>(ControlFlow::Continue(()))
    })?;
    progress(0, &found);
    let seconds = start.elapsed().as_secs_f64();
    let ([results, reference], broken) = (results, found.count());
    let percents = evaluator.masked.percents.clone();
    Ok(Evaluation { results, reference, images, reference_cost, metrics, percents, broken, seconds })
}

impl Evaluation {
    /// The report without a reference; `artifact` names the explainer.
    pub fn report(self, artifact: String) -> Report {
        let metrics = figures(&self.metrics, &self.results);
        Report {
            artifact,
            images: self.images.len(),
            broken: self.broken,
            seconds: self.seconds,
            figures: summaries(&self.percents, &metrics),
            metrics,
            against: None,
            warnings: Vec::new(),
            per_image: self.images,
        }
    }

    /// The comparison with the reference method `name`, which was evaluated on the same images.
    ///
    /// # Errors
    /// [`ResultsError`] where there is nothing to compare.
    pub fn against_method(&self, name: String) -> Result<ReferenceReport, ResultsError> {
        let images = self.reference.rows.len().max(1) as f64;
        let Cost { forward, backward, .. } = self.reference_cost;
        let passes = MeanPasses { forward: forward as f64 / images, backward: backward as f64 / images };
        let differences = self.results.differences(&self.reference)?;
        let metrics = figures(&self.metrics, &self.reference);
        Ok(ReferenceReport { name, metrics, passes: Some(passes), differences })
    }

    /// The comparison with the values of another evaluation.
    ///
    /// # Errors
    /// [`ResultsError`] where there is nothing to compare.
    pub fn against_values(&self, name: String, values: &Results) -> Result<ReferenceReport, ResultsError> {
        Ok(ReferenceReport { name, metrics: Vec::new(), passes: None, differences: self.results.differences(values)? })
    }
}
