//! Every metric by name.

use super::complexity::{Complexity, Sparsity};
use super::crop::{LocalisationError, Ssr};
use super::fixations::Nss;
use super::infidelity::{Infidelity, SQUARES};
use super::information::{Aic, Sic};
use super::insertion::{Deletion, Insertion, STEPS};
use super::masked::{Figure, Masked};
use super::perturbation::{Neg, Pos};
use super::pointing::Pointing;
use super::road::{First, Imputer, Removed, Road};
use super::sanity::{CASCADE, Sanity, Similarity};
use super::sensitivity::{MaxSensitivity, RADIUS};
use super::soundness::{Completeness, Soundness};
use super::{Metric, MetricError};

/// A metric's name, the form of its parameter, and how it is made from that.
type Entry = (&'static str, &'static str, fn(&Argument) -> Result<Box<dyn Metric>, MetricError>);

/// One line a metric.
const METRICS: &[Entry] = &[
    ("ad", "[@PERCENT]", |v| boxed(Masked::new("ad", Figure::Drop, v.percent(100.0)?))),
    ("ic", "[@PERCENT]", |v| boxed(Masked::new("ic", Figure::Increase, v.percent(100.0)?))),
    ("ag", "[@PERCENT]", |v| boxed(Masked::new("ag", Figure::Gain, v.percent(100.0)?))),
    ("adp", "", |v| v.none(Masked { name: "adp".into(), figure: Figure::Drop, kept: 100.0 })),
    ("pic", "", |v| v.none(Masked { name: "pic".into(), figure: Figure::Increase, kept: 100.0 })),
    ("insertion", "[@STEPS]", |n| boxed(Insertion { steps: n.count(STEPS)? })),
    ("deletion", "[@STEPS]", |n| boxed(Deletion { steps: n.count(STEPS)? })),
    ("pos", "", |v| v.none(Pos)),
    ("neg", "", |v| v.none(Neg)),
    ("aic", "", |v| v.none(Aic)),
    ("sic", "", |v| v.none(Sic)),
    ("road-morf", "[@PERCENT|@ptame|@ttame]", |v| v.road(First::Most, Imputer::Linear)),
    ("road-lerf", "[@PERCENT|@ptame|@ttame]", |v| v.road(First::Least, Imputer::Linear)),
    ("road-morf-telea", "[@PERCENT|@ptame|@ttame]", |v| v.road(First::Most, Imputer::Telea)),
    ("road-lerf-telea", "[@PERCENT|@ptame|@ttame]", |v| v.road(First::Least, Imputer::Telea)),
    ("ssr", "[@TIMES]", |v| boxed(Ssr { times: v.times()? })),
    ("localisation-error", "[@TIMES]", |v| boxed(LocalisationError { times: v.times()? })),
    ("pointing", "", |v| v.none(Pointing::Largest)),
    ("energy-pointing", "", |v| v.none(Pointing::Energy)),
    ("weighting", "", |v| v.none(Pointing::Weighting)),
    ("sparsity", "", |v| v.none(Sparsity)),
    ("complexity", "", |v| v.none(Complexity)),
    ("nss", "", |v| v.none(Nss)),
    ("completeness", "", |v| v.none(Completeness)),
    ("soundness", "", |v| v.none(Soundness)),
    ("max-sensitivity", "[@RADIUS]", |v| boxed(MaxSensitivity { radius: v.radius()? })),
    ("infidelity", "[@SQUARES]", |n| boxed(Infidelity { squares: n.count(SQUARES)? })),
    ("sanity-ssim", "[@STAGE]", |v| boxed(Sanity { similarity: Similarity::Ssim, stage: v.stage()? })),
    ("sanity-spearman", "[@STAGE]", |v| boxed(Sanity { similarity: Similarity::Spearman, stage: v.stage()? })),
];

/// The metric of this name: `NAME` or `NAME@PARAMETER`, such as `ad@50`.
///
/// # Errors
/// [`MetricError::Unknown`] lists those there are; [`MetricError::Parameter`] says what is expected behind the `@`.
pub fn metric(name: &str) -> Result<Box<dyn Metric>, MetricError> {
    let (stem, text) = match name.trim().split_once('@') {
        Some((stem, text)) => (stem, Some(text.to_owned())),
        None => (name.trim(), None),
    };
    let unknown = || MetricError::Unknown { name: stem.into(), known: names() };
    let (_, _, make) = METRICS.iter().find(|(known, ..)| *known == stem).ok_or_else(unknown)?;
    make(&Argument { name: stem.into(), text })
}

/// Every metric with the form of its parameter: `ad[@PERCENT]`.
#[must_use]
pub fn names() -> Vec<String> {
    METRICS.iter().map(|(name, form, _)| format!("{name}{form}")).collect()
}

/// What stands behind a metric's `@`, if anything does.
struct Argument {
    name: String,
    text: Option<String>,
}

impl Argument {
    /// A share of the pixels in percent, above 0 and at most 100.
    fn percent(&self, default: f64) -> Result<f64, MetricError> {
        let within = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
        self.read(default, "a percentage above 0, at most 100", within)
    }

    /// A number of steps.
    fn count(&self, default: usize) -> Result<usize, MetricError> {
        self.read(default, "a whole number, 1 to 100000", |count| (1..=100_000).contains(count))
    }

    /// A threshold over the mean of a map.
    fn times(&self) -> Result<f64, MetricError> {
        self.read(1.0, "a number above 0, times the map's mean", |times| *times > 0.0 && times.is_finite())
    }

    /// The largest disturbance of a normalised value.
    fn radius(&self) -> Result<f64, MetricError> {
        self.read(RADIUS, "a number above 0, at most 10", |radius| *radius > 0.0 && *radius <= 10.0)
    }

    /// A stage of the cascading randomisation, from 0; its name counts from 1.
    fn stage(&self) -> Result<Option<usize>, MetricError> {
        if self.text.is_none() {
            return Ok(None);
        }
        let expected = format!("a stage, 1 to {}", CASCADE.len());
        self.read(1, &expected, |stage| (1..=CASCADE.len()).contains(stage)).map(|stage| Some(stage - 1))
    }

    /// ROAD with a paper's percentages, P-TAME's by default, or with one.
    fn road(&self, first: First, imputer: Imputer) -> Result<Box<dyn Metric>, MetricError> {
        let removed = match self.text.as_deref() {
            None | Some("ptame") => Removed::Ptame,
            Some("ttame") => Removed::Ttame,
            Some(_) => {
                let within = |percent: &f64| *percent > 0.0 && *percent < 100.0;
                Removed::Percent(self.read(0.0, "a percentage above 0, below 100, or ptame or ttame", within)?)
            }
        };
        boxed(Road { first, imputer, removed })
    }

    /// A metric without parameter.
    fn none(&self, metric: impl Metric + 'static) -> Result<Box<dyn Metric>, MetricError> {
        match &self.text {
            None => boxed(metric),
            Some(found) => Err(self.wrong(found, "nothing: it has no parameter")),
        }
    }

    fn read<T: std::str::FromStr>(
        &self,
        default: T,
        expected: &str,
        within: impl Fn(&T) -> bool,
    ) -> Result<T, MetricError> {
        let Some(text) = &self.text else { return Ok(default) };
        text.parse().ok().filter(within).ok_or_else(|| self.wrong(text, expected))
    }

    fn wrong(&self, found: &str, expected: &str) -> MetricError {
        MetricError::Parameter { name: self.name.clone(), found: found.into(), expected: expected.into() }
    }
}

fn boxed(metric: impl Metric + 'static) -> Result<Box<dyn Metric>, MetricError> {
    Ok(Box::new(metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_answers_to_the_name_it_gives_itself() {
        for (stem, ..) in METRICS {
            let spec = metric(stem).unwrap().spec();
            assert_eq!(metric(&spec.name).unwrap().spec(), spec, "{stem}");
            assert!(
                spec.name.starts_with(stem) && spec.range[0] < spec.range[1] && !spec.source.is_empty(),
                "{spec:?}"
            );
        }
    }

    #[test]
    fn parameters_are_part_of_the_name() {
        let name = |text: &str| metric(text).unwrap().spec().name;
        assert_eq!(
            ["ad", "ad@50", " ic@12.5 ", "insertion@28"].map(name),
            ["ad@100", "ad@50", "ic@12.5", "insertion@28"]
        );
        let road = ["road-morf@ptame", "road-lerf-telea@ttame", "road-lerf@30"].map(name);
        assert_eq!(road, ["road-morf", "road-lerf-telea@ttame", "road-lerf@30"]);
        let asked = ["sanity-ssim", "sanity-spearman@4", "max-sensitivity@0.02", "infidelity@9"].map(name);
        assert_eq!(asked, ["sanity-ssim", "sanity-spearman@4", "max-sensitivity", "infidelity@9"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let problem = |text: &str| metric(text).unwrap_err().to_string();
        assert!(problem("add").starts_with("unknown metric `add`; known are ad[@PERCENT], ic[@PERCENT]"));
        for wrong in ["ad@0", "ad@100.5", "ad@-3", "ad@NaN", "ad@", "ad@half"] {
            let problem = problem(wrong);
            assert!(problem.ends_with("expected a percentage above 0, at most 100"), "{problem}");
        }
        assert!(problem("road-morf@100").contains("expected a percentage above 0, below 100, or ptame or ttame"));
        assert!(problem("sanity-ssim@5").ends_with("found `5` behind the @, expected a stage, 1 to 4"));
        assert!(problem("max-sensitivity@0").ends_with("expected a number above 0, at most 10"));
        assert!(problem("insertion@0").contains("expected a whole number, 1 to 100000"));
        assert_eq!(problem("pos@3"), "metric `pos`: found `3` behind the @, expected nothing: it has no parameter");
    }
}
