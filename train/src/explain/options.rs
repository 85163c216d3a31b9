//! How to open an explainer, and why it cannot be opened.

use explainer_zoo::artifact::ArtifactError;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::ExplainError;
use explainer_zoo::explainer::bee::{BeeError, Mode, RewardMetric};

/// Places of weights that replace those that an artifact names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightOverrides {
    /// The weights of the explained classifier.
    pub backbone: Option<String>,
    /// The weights of the second classifier: P-TAME's auxiliary, BEE's context.
    pub second: Option<String>,
}

/// How BEE explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeeOptions {
    /// The metric that the maps are drawn for; needed where mixtures were learned for several.
    pub metric: Option<RewardMetric>,
    /// Maps drawn for an explanation, at least 1; by default as the artifact says.
    pub draws: Option<usize>,
    /// Where baselines come from.
    pub mode: Mode,
}

impl Default for BeeOptions {
    fn default() -> Self {
        Self { metric: None, draws: None, mode: Mode::Pretrained }
    }
}

/// How to open an explainer. The default is an explainer as its artifact describes it, on the CPU.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Where the weights of the classifiers are, if not where the artifact says.
    pub weights: WeightOverrides,
    /// Where to compute.
    pub compute: Compute,
    /// BEE's options; anything but the default is refused for another explainer.
    pub bee: BeeOptions,
}

impl BeeOptions {
    /// The option that differs from its default, if one does.
    pub(super) fn given(&self) -> Option<&'static str> {
        match self.mode {
            _ if self.metric.is_some() => Some("metric"),
            _ if self.draws.is_some() => Some("draws"),
            Mode::FineTuned => Some("fine-tune"),
            Mode::Fixed(_) => Some("family"),
            Mode::Pretrained => None,
        }
    }

    /// The metric that was chosen, or the only one that was learned for.
    pub(super) fn metric(&self, learned: &[RewardMetric]) -> Result<RewardMetric, OpenError> {
        match (self.metric, learned) {
            (Some(metric), _) => Ok(metric),
            (None, [only]) => Ok(*only),
            (None, _) => Err(OpenError::MetricNeeded { known: learned.to_vec() }),
        }
    }
}

/// Why an explainer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The artifact or its classifiers.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// An option of BEE's for another explainer.
    #[error("{option}: only BEE has this option, the explainer has one map per class; leave it out")]
    NotBee {
        /// The option.
        option: &'static str,
    },
    /// BEE learned for several metrics, and none was chosen.
    #[error("a metric is needed, this explainer learned for {}", names(known))]
    MetricNeeded {
        /// The metrics.
        known: Vec<RewardMetric>,
    },
    /// BEE did not learn for the metric.
    #[error(transparent)]
    NoMixture(BeeError),
}

impl From<ArtifactError> for OpenError {
    fn from(error: ArtifactError) -> Self {
        Self::Explain(error.into())
    }
}

/// Names of metrics, for messages.
pub fn names(metrics: &[RewardMetric]) -> String {
    metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_needed_unless_there_is_only_one() {
        let metric = |metric, known: &[RewardMetric]| BeeOptions { metric, ..BeeOptions::default() }.metric(known);
        assert_eq!(metric(Some(RewardMetric::Del), &[RewardMetric::Ins]).unwrap(), RewardMetric::Del);
        assert_eq!(metric(None, &[RewardMetric::Ins]).unwrap(), RewardMetric::Ins);
        let message = metric(None, &[RewardMetric::Ins, RewardMetric::Del]).unwrap_err().to_string();
        assert!(message.contains("INS, DEL"), "{message}");
    }
}
