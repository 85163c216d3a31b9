//! The registry: every metric by name.

use crate::agreement::Nss;
use crate::complexity::{Entropy, Sparsity};
use crate::faithfulness::{
    Aic, Completeness, ConfidenceChange, Deletion, Imputer, Infidelity, Insertion, MaskedConfidenceMetric, Neg,
    Percentages, Pos, RemovalOrder, Road, SQUARES, STEPS, Sic, Soundness, Ssr, StartBlur,
};
use crate::localisation::{LocalisationError, Pointing};
use crate::randomisation::{CASCADE, CascadingRandomisation, Similarity};
use crate::robustness::{MaxSensitivity, RADIUS};
use crate::{Family, Metric, MetricError};

/// A metric's name, the form of its parameter, and how to make it from the parameter.
type Entry = (&'static str, &'static str, fn(&Parameter) -> Result<Box<dyn Metric>, MetricError>);

/// One line for each metric.
const METRICS: &[Entry] = &[
    ("ad", "[@PERCENT]", |p| boxed(MaskedConfidenceMetric::new("ad", ConfidenceChange::Drop, p.percent(100.0)?))),
    ("ic", "[@PERCENT]", |p| boxed(MaskedConfidenceMetric::new("ic", ConfidenceChange::Increase, p.percent(100.0)?))),
    ("ag", "[@PERCENT]", |p| boxed(MaskedConfidenceMetric::new("ag", ConfidenceChange::Gain, p.percent(100.0)?))),
    ("adp", "", |p| p.none(MaskedConfidenceMetric::whole("adp", ConfidenceChange::Drop))),
    ("pic", "", |p| p.none(MaskedConfidenceMetric::whole("pic", ConfidenceChange::Increase))),
    ("insertion", "[@STEPS]", |p| boxed(Insertion { steps: p.count(STEPS)?, start: StartBlur::Gaussian })),
    ("insertion-rise", "[@STEPS]", |p| boxed(Insertion { steps: p.count(STEPS)?, start: StartBlur::Rise })),
    ("deletion", "[@STEPS]", |p| boxed(Deletion { steps: p.count(STEPS)? })),
    ("pos", "", |p| p.none(Pos)),
    ("neg", "", |p| p.none(Neg)),
    ("aic", "", |p| p.none(Aic)),
    ("sic", "", |p| p.none(Sic)),
    ("road-morf", "[@PERCENT|@ptame|@ttame]", |p| p.road(RemovalOrder::MostRelevantFirst, Imputer::Linear)),
    ("road-lerf", "[@PERCENT|@ptame|@ttame]", |p| p.road(RemovalOrder::LeastRelevantFirst, Imputer::Linear)),
    ("road-morf-telea", "[@PERCENT|@ptame|@ttame]", |p| p.road(RemovalOrder::MostRelevantFirst, Imputer::Telea)),
    ("road-lerf-telea", "[@PERCENT|@ptame|@ttame]", |p| p.road(RemovalOrder::LeastRelevantFirst, Imputer::Telea)),
    ("ssr", "[@TIMES]", |p| boxed(Ssr { threshold: p.threshold()? })),
    ("completeness", "", |p| p.none(Completeness)),
    ("soundness", "", |p| p.none(Soundness)),
    ("infidelity", "[@SQUARES]", |p| boxed(Infidelity { squares: p.count(SQUARES)? })),
    ("localisation-error", "[@TIMES]", |p| boxed(LocalisationError { threshold: p.threshold()? })),
    ("pointing", "", |p| p.none(Pointing::Largest)),
    ("energy-pointing", "", |p| p.none(Pointing::Energy)),
    ("weighting", "", |p| p.none(Pointing::Weighting)),
    ("max-sensitivity", "[@RADIUS]", |p| boxed(MaxSensitivity { radius: p.radius()? })),
    ("sanity-ssim", "[@STAGE]", |p| boxed(CascadingRandomisation { similarity: Similarity::Ssim, stage: p.stage()? })),
    ("sanity-spearman", "[@STAGE]", |p| {
        boxed(CascadingRandomisation { similarity: Similarity::Spearman, stage: p.stage()? })
    }),
    ("sparsity", "", |p| p.none(Sparsity)),
    ("complexity", "", |p| p.none(Entropy)),
    ("nss", "", |p| p.none(Nss)),
];

/// The metric of this name: `NAME` or `NAME@PARAMETER`, such as `ad@50`.
///
/// # Errors
/// [`MetricError::Unknown`] lists the metrics; [`MetricError::Parameter`] says what is valid behind the `@`.
pub fn metric(name: &str) -> Result<Box<dyn Metric>, MetricError> {
    let (stem, text) = match name.trim().split_once('@') {
        Some((stem, text)) => (stem, Some(text.to_owned())),
        None => (name.trim(), None),
    };
    let unknown = || MetricError::Unknown { name: stem.into(), known: names() };
    let (_, _, make) = METRICS.iter().find(|(known, ..)| *known == stem).ok_or_else(unknown)?;
    make(&Parameter { metric: stem.into(), text })
}

/// Every metric with the form of its parameter: `ad[@PERCENT]`.
#[must_use]
pub fn names() -> Vec<String> {
    METRICS.iter().map(|(name, form, _)| format!("{name}{form}")).collect()
}

/// [`names`] by family, in the order of [`Family::ALL`].
#[must_use]
pub fn names_by_family() -> Vec<(Family, Vec<String>)> {
    let family = |stem: &str| metric(stem).ok().map(|metric| metric.spec().family);
    let of = |wanted: Family| {
        let metrics = METRICS.iter().filter(|(name, ..)| family(name) == Some(wanted));
        (wanted, metrics.map(|(name, form, _)| format!("{name}{form}")).collect())
    };
    Family::ALL.map(of).into()
}

/// The parameter behind a metric's `@`, if there is one.
struct Parameter {
    metric: String,
    text: Option<String>,
}

impl Parameter {
    /// A share of the pixels in percent, above 0 and at most 100.
    fn percent(&self, default: f64) -> Result<f64, MetricError> {
        let valid = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
        self.parse(default, "a percentage above 0, at most 100", valid)
    }

    /// A number of steps or squares.
    fn count(&self, default: usize) -> Result<usize, MetricError> {
        self.parse(default, "a whole number, 1 to 100000", |count| (1..=100_000).contains(count))
    }

    /// A threshold as a multiple of the map's mean.
    fn threshold(&self) -> Result<f64, MetricError> {
        let valid = |threshold: &f64| *threshold > 0.0 && threshold.is_finite();
        self.parse(1.0, "a number above 0, times the map's mean", valid)
    }

    /// The largest change of a normalised value.
    fn radius(&self) -> Result<f64, MetricError> {
        self.parse(RADIUS, "a number above 0, at most 10", |radius| *radius > 0.0 && *radius <= 10.0)
    }

    /// A stage of the cascading randomisation, from 0; the parameter counts from 1.
    fn stage(&self) -> Result<Option<usize>, MetricError> {
        if self.text.is_none() {
            return Ok(None);
        }
        let expected = format!("a stage, 1 to {}", CASCADE.len());
        self.parse(1, &expected, |stage| (1..=CASCADE.len()).contains(stage)).map(|stage| Some(stage - 1))
    }

    /// ROAD at the percentages of a paper, P-TAME's by default, or at one percentage.
    fn road(&self, order: RemovalOrder, imputer: Imputer) -> Result<Box<dyn Metric>, MetricError> {
        let percentages = match self.text.as_deref() {
            None | Some("ptame") => Percentages::Ptame,
            Some("ttame") => Percentages::Ttame,
            Some(_) => {
                let valid = |percent: &f64| *percent > 0.0 && *percent < 100.0;
                Percentages::One(self.parse(0.0, "a percentage above 0, below 100, or ptame or ttame", valid)?)
            }
        };
        boxed(Road { order, imputer, percentages })
    }

    /// A metric without parameter.
    fn none(&self, metric: impl Metric + 'static) -> Result<Box<dyn Metric>, MetricError> {
        match &self.text {
            None => boxed(metric),
            Some(found) => Err(self.invalid(found, "nothing: it has no parameter")),
        }
    }

    fn parse<T: std::str::FromStr>(
        &self,
        default: T,
        expected: &str,
        valid: impl Fn(&T) -> bool,
    ) -> Result<T, MetricError> {
        let Some(text) = &self.text else { return Ok(default) };
        text.parse().ok().filter(valid).ok_or_else(|| self.invalid(text, expected))
    }

    fn invalid(&self, found: &str, expected: &str) -> MetricError {
        MetricError::Parameter { name: self.metric.clone(), found: found.into(), expected: expected.into() }
    }
}

fn boxed(metric: impl Metric + 'static) -> Result<Box<dyn Metric>, MetricError> {
    Ok(Box::new(metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_the_name_in_its_spec() {
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
        let others = ["sanity-ssim", "sanity-spearman@4", "max-sensitivity@0.02", "infidelity@9"].map(name);
        assert_eq!(others, ["sanity-ssim", "sanity-spearman@4", "max-sensitivity", "infidelity@9"]);
    }

    #[test]
    fn invalid_names_and_parameters_are_refused_with_the_valid_ones() {
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

    #[test]
    fn the_registry_is_in_the_order_of_the_families() {
        let by_family: Vec<String> = names_by_family().into_iter().flat_map(|(_, names)| names).collect();
        assert_eq!(by_family, names());
        assert!(names_by_family().iter().all(|(family, names)| !names.is_empty() && !family.to_string().is_empty()));
    }

    #[test]
    fn the_readme_lists_every_metric() {
        let readme = include_str!("../README.md");
        let missing: Vec<&str> =
            METRICS.iter().map(|(stem, ..)| *stem).filter(|stem| !readme.contains(&format!("`{stem}`"))).collect();
        assert!(missing.is_empty(), "README.md lacks {missing:?}");
    }
}
