//! The result of an evaluation, as `evaluate --json` writes it.

use std::collections::BTreeMap;

use explainer_metrics::{Confidence, Difference, MetricResult, MetricSpec, Results, Summary};
use serde::Serialize;

/// The result of an evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The explainer, as it was named.
    pub artifact: String,
    /// Number of measured images.
    pub images: usize,
    /// Number of images that could not be read.
    pub broken: usize,
    /// Seconds for all images, without loading the explainer.
    pub seconds: f64,
    /// AD, IC and AG by percentage of kept pixels.
    pub figures: Vec<Summary>,
    /// Every metric with its mean, standard error and interval.
    pub metrics: Vec<MetricResult>,
    /// The comparison with a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<ReferenceReport>,
    /// Warnings about the annotations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The values of each image.
    pub per_image: Vec<MeasuredImage>,
}

/// The comparison with a reference, image by image.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceReport {
    /// The method, or the file.
    pub name: String,
    /// The metrics of the method; empty for a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricResult>,
    /// Passes of the method per image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<MeanPasses>,
    /// The explainer's value less the reference's, by metric.
    pub differences: Vec<Difference>,
}

/// Mean number of passes through the classifier per image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanPasses {
    /// Forward passes.
    pub forward: f64,
    /// Backward passes.
    pub backward: f64,
}

/// The values of one image.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredImage {
    /// The image.
    pub name: String,
    /// The predicted class, which is explained.
    pub class: usize,
    /// Probabilities of the class, for the image and for the masked images.
    #[serde(flatten)]
    pub confidence: Confidence,
    /// Every metric by its name; `null` where it is undefined.
    pub values: BTreeMap<String, Option<f64>>,
}

/// The metrics over all images.
pub(super) fn figures(metrics: &[MetricSpec], results: &Results) -> Vec<MetricResult> {
    let figure =
        |(place, spec): (usize, &MetricSpec)| MetricResult { spec: spec.clone(), estimate: results.estimate(place) };
    metrics.iter().enumerate().map(figure).collect()
}

/// Means of AD, IC and AG by percentage; NaN where they were not measured.
pub(super) fn summaries(percents: &[f64], figures: &[MetricResult]) -> Vec<Summary> {
    let mean = |stem: &str, percent: f64| {
        let name = format!("{stem}@{percent}");
        let figure = figures.iter().find(|figure| figure.spec.name == name);
        figure.and_then(|figure| figure.estimate.mean).unwrap_or(f64::NAN)
    };
    let summary = |percent: &f64| {
        let [ad, ic, ag] = ["ad", "ic", "ag"].map(|stem| mean(stem, *percent));
        Summary { percent: *percent, ad, ic, ag }
    };
    percents.iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_each_image_flat() {
        let confidence = Confidence { clean: Some(0.5), masked: vec![Some(0.25)] };
        let values = [("ad@50".to_owned(), Some(50.0)), ("sic".to_owned(), None)].into();
        let image = MeasuredImage { name: "a.png".into(), class: 3, confidence, values };
        let expected = serde_json::json!({
            "name": "a.png", "class": 3, "clean": 0.5, "masked": [0.25], "values": {"ad@50": 50.0, "sic": null}
        });
        assert_eq!(serde_json::to_value(&image).unwrap(), expected);
    }
}
