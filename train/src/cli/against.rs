//! What `evaluate` compares an explainer with: a method without training, or the values of another evaluation.

use super::BadUsage;
use crate::explain::{ExplainError, LoadedExplainer, MethodExplainFn};
use explainer_attribution::{AttributionError, AttributionMethod, MethodContext, MethodSpec};
use explainer_metrics::{Attributions, ImageBatch, Metric, MetricError, Results, Row};
use explainer_zoo::backbone::Passes;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// What an explainer is compared with.
#[derive(Clone, Debug)]
pub enum Other {
    /// A method without training.
    Method(MethodSpec),
    /// Values of an evaluation.
    File(PathBuf),
}

/// A method where it is the name of one, else a file; what looks like a misspelt name is refused with those there are.
pub(super) fn other(text: &str) -> Result<Other, AttributionError> {
    match text.parse() {
        Ok(method) => Ok(Other::Method(method)),
        Err(AttributionError::Unknown { .. }) if text.contains(['.', '/', '\\']) || Path::new(text).exists() => {
            Ok(Other::File(text.into()))
        }
        Err(error) => Err(error),
    }
}

/// A metric's values of the images of a batch.
pub(super) type Column = Vec<Option<f64>>;

/// The values of all metrics.
pub(super) fn columns(case: &Attributions<'_>, metrics: &[Box<dyn Metric>]) -> Result<Vec<Column>, MetricError> {
    metrics.iter().map(|metric| metric.measure(case)).collect()
}

/// The values of the image at a place of the batch.
pub(super) fn row(columns: &[Column], place: usize) -> Vec<Option<f64>> {
    columns.iter().map(|column| column.get(place).copied().flatten()).collect()
}

/// Passes for an image.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct PerImage {
    pub forward: f64,
    pub backward: f64,
}

/// The values to compare with: as they were read, or as they are measured.
#[derive(Debug)]
pub(super) struct Theirs {
    name: String,
    method: Option<Box<dyn AttributionMethod>>,
    results: Results,
    passes: Passes,
}

impl Theirs {
    /// A method, to be measured by these metrics with so many perturbed images in memory at a time.
    pub(super) fn of(
        method: &MethodSpec,
        loaded: &LoadedExplainer,
        metrics: Vec<String>,
        per_call: NonZeroUsize,
    ) -> Result<Self, BadUsage> {
        let preprocessing = &loaded.artifact.config.preprocessing;
        let batch_size = per_call.get();
        let context = MethodContext { preprocessing, batch_size, ..MethodContext::new(loaded.backbone.as_ref()) };
        let made = method.build(&context).map_err(|error| BadUsage(format!("--against: {error}")))?;
        let results = Results { metrics, rows: Vec::new() };
        Ok(Self { name: method.to_string(), method: Some(made), results, passes: Passes::default() })
    }

    /// Values that were read.
    pub(super) fn read(file: &Path, results: Results) -> Self {
        Self { name: file.display().to_string(), method: None, results, passes: Passes::default() }
    }

    /// The method's name, or the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The values.
    pub(super) fn results(&self) -> &Results {
        &self.results
    }

    /// Passes that a method made for an image, on average.
    pub(super) fn passes(&self) -> Option<PerImage> {
        let images = self.results.rows.len().max(1) as f64;
        let Passes { forward, backward } = self.passes;
        let passes = || PerImage { forward: forward as f64 / images, backward: backward as f64 / images };
        self.method.is_some().then(passes)
    }

    /// Measures the method's maps of a batch, if it is a method. `randomised` are explainers of a classifier of which ever
    /// more is random, for metrics that ask for it.
    pub(super) fn measure(
        &mut self,
        subject: &ImageBatch<'_>,
        metrics: &[Box<dyn Metric>],
        randomised: &[LoadedExplainer],
    ) -> Result<Vec<Column>, ExplainError> {
        let Some(method) = self.method.as_deref() else { return Ok(Vec::new()) };
        let found = method.explain(subject.backbone(), subject.images(), subject.classes())?;
        self.passes += found.passes;
        let randomised = randomised.iter().map(|loaded| loaded.backbone.as_ref()).collect();
        let asked = MethodExplainFn { method, trained: subject.backbone(), randomised };
        Ok(columns(&Attributions::new(subject, found.maps)?.with_explainer(&asked), metrics)?)
    }

    /// Keeps an image's values.
    pub(super) fn add(&mut self, row: Row) {
        self.results.rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_methods_paths_are_files_and_the_rest_is_refused() {
        assert!(matches!(other("grad-cam"), Ok(Other::Method(method)) if method.to_string() == "grad-cam"));
        assert!(matches!(other("rise@500"), Ok(Other::Method(method)) if method.to_string() == "rise@500"));
        for file in ["ttame.csv", "runs/ttame", "./grad-cam"] {
            assert!(matches!(other(file), Ok(Other::File(path)) if path == Path::new(file)));
        }
        let problem = |text: &str| other(text).unwrap_err().to_string();
        assert!(
            problem("gard-cam").starts_with("unknown attribution method `gard-cam`; known are grad-cam, grad-cam++")
        );
        assert!(problem("rise@0").contains("found `0` behind the @, expected a whole number"));
    }
}
