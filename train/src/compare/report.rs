//! The result of a comparison: a pure function of the measured values.

use std::collections::BTreeMap;

use serde::Serialize;

use explainer_zoo::explain::Cost;

use super::error::CompareError;
use super::gallery::Gallery;
use crate::data::BrokenImage;
use crate::evaluation::Curve;
use explainer_metrics::{Difference, Direction, Estimate, MetricSpec, Results};

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How it was made.
    pub setting: Setting,
    /// The metrics, in the order of the figures.
    pub metrics: Vec<MetricSpec>,
    /// The explainer that the others are compared with.
    pub reference: String,
    /// The explainers, in the configuration's order.
    pub explainers: Vec<ExplainerReport>,
    /// Images that could not be read.
    pub broken: Vec<UnreadableImage>,
    /// Worst cases of the reference.
    pub gallery: Gallery,
}

/// How a comparison was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The program and its version.
    pub program: String,
    /// The command that reproduces it.
    pub command: String,
    /// Where the images are.
    pub images: String,
    /// Number of images to measure on, unreadable ones included.
    pub count: usize,
    /// SHA-256 that identifies the set of images.
    pub images_sha256: String,
    /// The classifier's architecture.
    pub classifier: String,
    /// Where its weights are.
    pub weights: String,
    /// Their SHA-256; `None` for random weights.
    pub weights_sha256: Option<String>,
    /// Side of its images in pixels.
    pub side: usize,
    /// Seed of the methods that draw random numbers.
    pub seed: u64,
    /// Images per batch; times depend on it.
    pub batch_size: usize,
    /// The device.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableImage {
    /// Its name.
    pub image: String,
    /// Why.
    pub reason: String,
}

impl From<&BrokenImage> for UnreadableImage {
    fn from(broken: &BrokenImage) -> Self {
        Self { image: broken.name.clone(), reason: broken.reason.clone() }
    }
}

/// The results of one explainer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainerReport {
    /// Its name.
    pub name: String,
    /// The method, and for a trained explainer where it comes from.
    pub what: String,
    /// What its maps follow from: SHA-256 of a trained one, or the method and its seed.
    pub identity: String,
    /// Number of images that it was measured on.
    pub images: usize,
    /// For each metric its mean and interval.
    pub figures: Vec<Estimate>,
    /// For each metric whether its mean is the best. Ranked are the explainers that were measured on all images and whose
    /// maps depend on the classifier.
    pub best: Vec<bool>,
    /// What an explanation costs, on average.
    pub cost: MeanCost,
    /// For each metric the value less the reference's, on the images that both have; empty for the reference.
    pub differences: Vec<Difference>,
    /// Mean curves by metric.
    pub curves: Curves,
}

/// Mean curves by metric, over the share of the pixels from 0 to 1 in equal steps.
pub type Curves = BTreeMap<String, Vec<f64>>;

/// The mean cost of one explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeanCost {
    /// Forward passes of the classifier.
    pub forward: f64,
    /// Its backward passes.
    pub backward: f64,
    /// Forward passes of a second classifier.
    pub second: f64,
    /// Milliseconds.
    pub milliseconds: f64,
}

impl MeanCost {
    pub(super) fn of((cost, images): (Cost, usize)) -> Self {
        let each = |count: u64| count as f64 / images.max(1) as f64;
        Self {
            forward: each(cost.forward),
            backward: each(cost.backward),
            second: each(cost.second),
            milliseconds: 1000.0 * cost.seconds / images.max(1) as f64,
        }
    }

    /// All passes together.
    #[must_use]
    pub fn passes(&self) -> f64 {
        self.forward + self.backward + self.second
    }

    /// Passes in words: forward / backward, and those of a second classifier.
    #[must_use]
    pub fn text(&self) -> String {
        let number = |value: f64| {
            let text = format!("{value:.1}");
            text.strip_suffix(".0").map_or(text.clone(), String::from)
        };
        let own = format!("{} / {}", number(self.forward), number(self.backward));
        if self.second > 0.0 { format!("{own} + {}", number(self.second)) } else { own }
    }
}

/// The measured values of an explainer.
#[derive(Clone, Debug)]
pub(super) struct Measurements {
    pub name: String,
    pub what: String,
    pub identity: String,
    pub results: Results,
    /// The cost of all explanations, and the number of images.
    pub cost: (Cost, usize),
    pub curves: BTreeMap<String, Curve>,
}

impl Report {
    /// Computes the report from the measurements of each explainer; `reference` is the index of the explainer that the others
    /// are compared with.
    ///
    /// # Errors
    /// [`CompareError::Results`] for explainers that explained different classes.
    pub(super) fn new(
        setting: Setting,
        metrics: Vec<MetricSpec>,
        found: Vec<Measurements>,
        reference: usize,
        broken: Vec<UnreadableImage>,
        gallery: Gallery,
    ) -> Result<Self, CompareError> {
        let mut explainers = Vec::new();
        for (place, one) in found.iter().enumerate() {
            let theirs = found.get(reference).filter(|_| place != reference);
            let common = |theirs: &&Measurements| {
                let images: std::collections::HashSet<&str> =
                    theirs.results.rows.iter().map(|row| row.image.as_str()).collect();
                one.results.rows.iter().any(|row| images.contains(row.image.as_str()))
            };
            let differences = match theirs.filter(common) {
                Some(theirs) => one.results.differences(&theirs.results)?,
                None => Vec::new(),
            };
            explainers.push(ExplainerReport {
                name: one.name.clone(),
                what: one.what.clone(),
                identity: one.identity.clone(),
                images: one.results.rows.len(),
                figures: (0..metrics.len()).map(|metric| one.results.estimate(metric)).collect(),
                best: Vec::new(),
                cost: MeanCost::of(one.cost),
                differences,
                curves: one.curves.iter().map(|(name, curve)| (name.clone(), curve.mean())).collect(),
            });
        }
        mark_best(&metrics, &mut explainers);
        let reference = found.get(reference).map(|one| one.name.clone()).unwrap_or_default();
        Ok(Self { setting, metrics, reference, explainers, broken, gallery })
    }
}

/// Sets [`ExplainerReport::best`].
fn mark_best(metrics: &[MetricSpec], explainers: &mut [ExplainerReport]) {
    let most = explainers.iter().map(|one| one.images).max().unwrap_or(0);
    let ranked = |one: &ExplainerReport| one.images == most && one.cost.passes() > 0.0;
    for (place, spec) in metrics.iter().enumerate() {
        let mean = |one: &ExplainerReport| one.figures.get(place).and_then(|figure| figure.mean);
        let means = explainers.iter().filter(|one| ranked(one)).filter_map(mean);
        let best = match spec.better {
            Direction::Higher => means.max_by(f64::total_cmp),
            Direction::Lower => means.min_by(f64::total_cmp),
        };
        for one in explainers.iter_mut() {
            let is_best = ranked(one) && best.is_some() && mean(one) == best;
            one.best.push(is_best);
        }
    }
}

/// Whether an interval of differences excludes 0: `Some(true)` if it lies on the better side.
pub(super) fn verdict(spec: &MetricSpec, estimate: &Estimate) -> Option<bool> {
    let [low, high] = estimate.interval?;
    match (low > 0.0, high < 0.0) {
        (true, _) => Some(spec.better == Direction::Higher),
        (_, true) => Some(spec.better == Direction::Lower),
        _ => None,
    }
}

/// Number of decimals.
pub(super) fn digits(spec: &MetricSpec) -> usize {
    if spec.unit == "percent" { 2 } else { 4 }
}

/// A value of a metric, or a dash.
pub(super) fn number(spec: &MetricSpec, value: Option<f64>) -> String {
    let digits = digits(spec);
    // -0.00 is no number to read.
    value.map_or("-".into(), |value| {
        let text = format!("{value:.digits$}");
        if text.trim_start_matches(['-', '0', '.']).is_empty() { text.replace('-', "") } else { text }
    })
}

/// An interval, or an empty text.
pub(super) fn interval(spec: &MetricSpec, estimate: &Estimate) -> String {
    let [low, high] = estimate.interval.map_or([None; 2], |ends| ends.map(Some));
    if low.is_none() { String::new() } else { format!("[{}, {}]", number(spec, low), number(spec, high)) }
}
