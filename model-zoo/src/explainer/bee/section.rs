//! The section of BEE, which learns baselines in place of a head.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric::RewardMetric;
use crate::explainer::learned::{MethodRequirements, MethodSection, RunKeys};
use crate::range::{at_least_one, hex_digest, not_blank};

/// What BEE learns, and how its maps are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct BeeSection {
    /// Metrics that a mixture of baselines is learned for: `ADP`, `PIC`, `NEG`, `POS`, `INS`, `DEL`, `AIC`, `SIC`. What a
    /// run costs is mostly their passes.
    #[garde(length(min = 1), inner(custom(metric)))]
    #[schemars(length(min = 1), inner(regex(pattern = "^(ADP|PIC|NEG|POS|INS|DEL|AIC|SIC)$")))]
    pub metrics: Vec<String>,
    /// Where paths run: taps of the backbone by module path, or `image`. With several, an explanation is the mean of
    /// their maps. By default the last of the backbone's default taps.
    #[garde(length(min = 1), inner(inner(custom(not_blank))))]
    #[schemars(length(min = 1))]
    pub sites: Option<Vec<String>>,
    /// Steps of a path.
    #[garde(custom(step_count))]
    #[schemars(range(min = 1, max = 10_000))]
    pub steps: usize,
    /// Draws of an explanation, unless `--draws` says otherwise.
    #[garde(custom(draw_count))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub draws: usize,
    /// Steps of the curves of `INS` and `DEL`, a forward pass each.
    #[garde(custom(step_count))]
    #[schemars(range(min = 1, max = 10_000))]
    pub curve_steps: usize,
    /// Length of the context.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub dimensions: usize,
    /// Precision of the prior of the context's linear map, above 1: how slowly the context is learned.
    #[garde(custom(above_one))]
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub theta_precision: f64,
    /// How many scores a metric remembers, to tell how good a new one is.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub history: usize,
    /// How many training images the family `train-data` draws from; the artifact holds them.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub references: usize,
    /// The frozen classifier whose pooled features are the context; by default the one that is explained. The paper has
    /// ResNet-18.
    #[garde(dive)]
    pub context: Option<BeeContext>,
}

impl Default for BeeSection {
    fn default() -> Self {
        Self {
            metrics: RewardMetric::ALL.map(|metric| metric.name().to_owned()).to_vec(),
            sites: None,
            steps: 4,
            draws: 100,
            curve_steps: 224,
            dimensions: 100,
            theta_precision: 1000.0,
            history: 1024,
            references: 16,
            context: None,
        }
    }
}

impl BeeSection {
    /// The metrics, each once, in their own order.
    pub fn metrics(&self) -> Vec<RewardMetric> {
        let mut metrics: Vec<RewardMetric> = self.metrics.iter().filter_map(|name| name.parse().ok()).collect();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }
}

impl MethodSection for BeeSection {
    const TITLE: &'static str = "BEE";
    const REQUIREMENTS: MethodRequirements = MethodRequirements {
        one_process: true,
        caches: false,
        batch_norm: false,
        ignored: &[
            ("masking", "bee has no loss"),
            ("objective", "bee has no loss"),
            ("optimizer", "bee has no loss"),
            ("schedule", "bee has no loss"),
            ("train.validate_every", "bee validates at the end of the run"),
        ],
        ..MethodRequirements::NONE
    };

    fn problems(&self, keys: &RunKeys<'_>) -> Vec<String> {
        let mut found = Vec::new();
        if keys.taps.is_some() {
            found.push("backbone.taps: not allowed with explainer.method `bee`; set explainer.sites".into());
        }
        for (key, list) in [("metrics", Some(&self.metrics)), ("sites", self.sites.as_ref())] {
            for (i, one) in list.into_iter().flatten().enumerate() {
                if list.into_iter().flatten().take(i).any(|earlier| earlier == one) {
                    found.push(format!("explainer.{key}: `{one}` is listed twice"));
                }
            }
        }
        found
    }
}

/// The classifier that the context is taken from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Encoder")]
pub struct BeeContext {
    /// Architecture, by its registered name.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where its trained weights are, in the forms of `backbone.weights`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, as `backbone.sha256`.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
}

fn metric(name: &str, _: &()) -> Result<(), garde::Error> {
    match RewardMetric::ALL.iter().any(|metric| metric.name() == name) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("found {name:?}, expected ADP, PIC, NEG, POS, INS, DEL, AIC or SIC"))),
    }
}

fn within(value: usize, most: usize) -> Result<(), garde::Error> {
    match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("found {value}, expected 1 to {most}"))),
    }
}

fn step_count(value: &usize, _: &()) -> Result<(), garde::Error> {
    within(*value, 10_000)
}

fn draw_count(value: &usize, _: &()) -> Result<(), garde::Error> {
    within(*value, 1_000_000)
}

fn above_one(value: &f64, _: &()) -> Result<(), garde::Error> {
    match value.is_finite() && *value > 1.0 {
        true => Ok(()),
        false => Err(garde::Error::new(format!("found {value}, expected a finite number above 1"))),
    }
}
