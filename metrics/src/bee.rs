//! The metrics that BEE selects baselines by, under the names of its paper.

use explainer_zoo::explainer::bee::RewardMetric as Name;

use crate::{Metric, MetricError, MetricInput, metric};

/// Metrics of BEE: each of its names with the metric of this crate.
#[derive(Debug)]
pub struct BeeMetrics(Vec<(Name, Box<dyn Metric>)>);

impl BeeMetrics {
    /// The metrics of these names; `INS` and `DEL` with `curve_steps` steps.
    ///
    /// # Errors
    /// [`MetricError::Parameter`] for `INS` or `DEL` with a number of steps outside 1..=100000.
    pub fn new(names: &[Name], curve_steps: usize) -> Result<Self, MetricError> {
        let make = |name: &Name| {
            let made = match name {
                Name::Ins => metric(&format!("insertion@{curve_steps}")),
                Name::Del => metric(&format!("deletion@{curve_steps}")),
                other => metric(&other.name().to_lowercase()),
            };
            Ok((*name, made?))
        };
        Ok(Self(names.iter().map(make).collect::<Result<_, _>>()?))
    }

    /// One value for each map, `None` where the metric is undefined.
    ///
    /// # Errors
    /// As [`Metric::measure`]; [`MetricError::Unknown`] for a name that was not given to [`BeeMetrics::new`].
    pub fn measure(&self, name: Name, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        let known = || self.0.iter().map(|(name, _)| name.name().to_owned()).collect();
        let (_, metric) = found.ok_or_else(|| MetricError::Unknown { name: name.name().to_owned(), known: known() })?;
        metric.measure(attributions)
    }

    /// Forward passes of the classifier for one map; 0 for a name that was not given to [`BeeMetrics::new`].
    pub fn passes(&self, name: Name) -> usize {
        self.0.iter().find(|(other, _)| *other == name).map_or(0, |(_, metric)| metric.spec().passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;

    #[test]
    fn every_metric_has_the_direction_that_bee_assumes() {
        let metrics = BeeMetrics::new(&Name::ALL, 28).unwrap();
        for (name, metric) in &metrics.0 {
            assert_eq!(metric.spec().better == Direction::Higher, name.higher_is_better(), "{name}");
        }
        assert_eq!((metrics.0.len(), metrics.passes(Name::Ins)), (8, 28));
        assert!(BeeMetrics::new(&[Name::Ins], 0).is_err());
        assert_eq!(BeeMetrics::new(&[Name::Del], 28).unwrap().passes(Name::Ins), 0);
    }
}
