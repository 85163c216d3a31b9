//! Why BEE cannot learn or explain.

use super::metric::RewardMetric;

/// Why BEE cannot learn or explain.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BeeError {
    /// No mixture was learned for this metric.
    #[error(
        "no mixture was learned for metric {metric}; there are mixtures for {}: choose one of these, or train with \
         {metric} among explainer.metrics",
        names(known)
    )]
    NoMixture {
        /// The requested metric.
        metric: RewardMetric,
        /// What there is.
        known: Vec<RewardMetric>,
    },
    /// A metric's score is NaN or infinite.
    #[error("metric {metric} scored a map {score}, expected a finite number")]
    Score {
        /// The metric.
        metric: RewardMetric,
        /// The score.
        score: f64,
    },
    /// The metric is undefined on every map.
    #[error("metric {metric} is undefined on all of {draws} maps of the image")]
    Unscored {
        /// The metric.
        metric: RewardMetric,
        /// How many maps were drawn.
        draws: usize,
    },
    /// There are more or fewer scores than maps.
    #[error("metric {metric} gave {found} scores for {expected} maps")]
    Scores {
        /// The metric.
        metric: RewardMetric,
        /// Scores.
        found: usize,
        /// Maps.
        expected: usize,
    },
    /// The features are not those that the mixture was learned with.
    #[error("the context has {found} features{}, the mixture takes {expected} numbers", unless(*finite))]
    Features {
        /// How many there are.
        found: usize,
        /// How many the mixture takes.
        expected: usize,
        /// Whether all are numbers.
        finite: bool,
    },
    /// Without training images the family `train-data` has nothing to draw from.
    #[error("BEE needs at least one training image to draw baselines from, there is none")]
    NoReferences,
    /// An explanation needs at least one draw.
    #[error("an explanation takes at least one draw, found 0")]
    NoDraws,
    /// A file that does not hold mixtures.
    #[error("{origin}: not the mixtures of a BEE explainer: {reason}")]
    State {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn names(metrics: &[RewardMetric]) -> String {
    match metrics {
        [] => "none".into(),
        _ => metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", "),
    }
}

fn unless(finite: bool) -> &'static str {
    if finite { "" } else { ", not all of them finite" }
}
