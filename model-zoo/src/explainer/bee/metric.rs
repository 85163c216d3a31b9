//! The metrics that a mixture of baselines can be learned for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A metric by which the map of a single image is scored. Their definitions are those of the literature; the caller
/// computes the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RewardMetric {
    /// Average drop percentage of the confidence.
    Adp,
    /// Percentage of increase in confidence.
    Pic,
    /// Negative perturbation: the least important pixels go first.
    Neg,
    /// Positive perturbation: the most important pixels go first.
    Pos,
    /// Insertion, area under the curve.
    Ins,
    /// Deletion, area under the curve.
    Del,
    /// Accuracy information curve.
    Aic,
    /// Softmax information curve.
    Sic,
}

impl RewardMetric {
    /// All of them, in the order of the paper's tables.
    pub const ALL: [Self; 8] = [Self::Adp, Self::Pic, Self::Neg, Self::Pos, Self::Ins, Self::Del, Self::Aic, Self::Sic];

    /// The name in configurations, artifacts and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adp => "ADP",
            Self::Pic => "PIC",
            Self::Neg => "NEG",
            Self::Pos => "POS",
            Self::Ins => "INS",
            Self::Del => "DEL",
            Self::Aic => "AIC",
            Self::Sic => "SIC",
        }
    }

    /// Whether a higher score is a better map.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Adp | Self::Pos | Self::Del)
    }

    /// Whether `score` is better than `other`.
    pub fn better(self, score: f64, other: f64) -> bool {
        if self.higher_is_better() { score > other } else { score < other }
    }
}

impl fmt::Display for RewardMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No metric has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric {0:?}; known are ADP, PIC, NEG, POS, INS, DEL, AIC and SIC")]
pub struct UnknownMetric(String);

impl FromStr for RewardMetric {
    type Err = UnknownMetric;

    /// By name, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|metric| metric.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| UnknownMetric(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_written_and_read() {
        for metric in RewardMetric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
            assert_eq!(metric.name().to_lowercase().parse(), Ok(metric));
        }
        let error = "ROAD".parse::<RewardMetric>().unwrap_err().to_string();
        assert!(
            error.contains("ROAD") && RewardMetric::ALL.iter().all(|metric| error.contains(metric.name())),
            "{error}"
        );
    }

    #[test]
    fn drops_and_deletions_are_better_when_low() {
        let low: Vec<RewardMetric> =
            RewardMetric::ALL.into_iter().filter(|metric| !metric.higher_is_better()).collect();
        assert_eq!(low, [RewardMetric::Adp, RewardMetric::Pos, RewardMetric::Del]);
        assert!(RewardMetric::Del.better(0.1, 0.2) && RewardMetric::Ins.better(0.2, 0.1));
        assert!(!RewardMetric::Del.better(0.1, 0.1) && !RewardMetric::Ins.better(f64::NAN, 0.1));
    }
}
