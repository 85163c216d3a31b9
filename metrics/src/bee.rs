//! The metrics that BEE learns for, by their names in its paper.

use explainer_zoo::explainer::bee::Metric as Name;

use super::{Attributions, Metric, MetricError, metric};

/// Metrics that score maps for BEE.
#[derive(Debug)]
pub struct BeeScores(Vec<(Name, Box<dyn Metric>)>);

impl BeeScores {
    /// These metrics; the curves of `INS` and `DEL` with so many steps.
    ///
    /// # Errors
    /// [`MetricError::Parameter`] for curves without a step.
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

    /// The scores of a case's maps, `None` where the metric is undefined.
    ///
    /// # Errors
    /// As [`Metric::measure`]; [`MetricError::Unknown`] for a metric that is none of these.
    pub fn score(&self, name: Name, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        let known = || self.0.iter().map(|(name, _)| name.name().to_owned()).collect();
        let (_, metric) = found.ok_or_else(|| MetricError::Unknown { name: name.name().to_owned(), known: known() })?;
        metric.measure(case)
    }

    /// Forward passes that the score of one map takes.
    pub fn passes(&self, name: Name) -> usize {
        self.0.iter().find(|(other, _)| *other == name).map_or(0, |(_, metric)| metric.spec().passes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Better;
    use super::*;

    /// Both sides know which direction is the better one.
    #[test]
    fn every_metric_is_there_and_has_the_direction_that_bee_learns_by() {
        let scores = BeeScores::new(&Name::ALL, 28).unwrap();
        for (name, metric) in &scores.0 {
            assert_eq!(metric.spec().better == Better::Higher, name.higher_is_better(), "{name}");
        }
        assert_eq!((scores.0.len(), scores.passes(Name::Ins)), (8, 28));
        assert!(BeeScores::new(&[Name::Ins], 0).is_err());
        assert_eq!(BeeScores::new(&[Name::Del], 28).unwrap().passes(Name::Ins), 0);
    }
}
