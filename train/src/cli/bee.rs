//! Tables of BEE: a finished run, an artifact, its mixtures.

use super::{Global, shared};
use crate::explain::{BeeExplainer, BeeOptions, WeightOverrides};
use crate::fit::bee::Finished;
use crate::report::progress::{warn_of_unverified, with_download_bar};
use crate::report::table::Table;
use explainer_zoo::artifact::bee::{BeeArtifact, BeeConfig};
use explainer_zoo::explainer::bee::{BeeError, Mixture};
use explainer_zoo::image::Pixels;
use explainer_zoo::weights::source::Progress;
use std::path::Path;

/// The tables at the end of a run.
pub(super) fn summary(finished: &Finished, artifact: &Path) -> Result<String, BeeError> {
    let state = &finished.state;
    let images = state.steps_made() * finished.batch_size;
    let mut facts = Table::new(["run", ""]);
    facts.row(["steps".to_string(), state.steps_made().to_string()]);
    if state.skipped > 0 {
        facts.row(["skipped steps".to_string(), format!("{}, without a readable image", state.skipped)]);
    }
    facts.row(["time".to_string(), format!("{:.0} s", state.seconds)]);
    facts.row(["images/s".to_string(), format!("{:.1}", images as f64 / state.seconds.max(1e-9))]);
    facts.row(["waited for images".to_string(), format!("{:.1} s", finished.waited.as_secs_f64())]);
    facts.row(["broken images".to_string(), finished.broken.len().to_string()]);
    facts.row(["artifact".to_string(), artifact.display().to_string()]);
    let mut table = Table::new(["metric", "better", "learned mixture", "uniform mixture", "images"]);
    for one in &finished.measured {
        let better = if one.metric.higher_is_better() { "higher" } else { "lower" };
        let (learned, uniform) = (format!("{:.4}", one.learned), format!("{:.4}", one.uniform));
        table.row([one.metric.to_string(), better.into(), learned, uniform, one.images.to_string()]);
    }
    let mut text = format!("{}\n{}\n", facts.text(), table.text());
    text += "Mean score of one draw an image, on images that nothing was learned from.\n";
    for mixture in finished.mixtures.iter() {
        text += &format!("\n{}", standings(mixture, None, 0)?);
    }
    Ok(text)
}

/// The table of a mixture's arms, for an image with these features or averaged over all contexts.
pub(super) fn standings(mixture: &Mixture, features: Option<&[f64]>, seed: u64) -> Result<String, BeeError> {
    let metric = mixture.metric();
    let mut table = Table::new(["family", "probability", "<w, c>", "played", "rewarded"]);
    for arm in mixture.standings(features, seed)? {
        let share = arm.wins as f64 / arm.plays.max(1) as f64;
        let error = (share * (1.0 - share) / arm.plays.max(1) as f64).sqrt();
        let rewarded = match arm.plays {
            0 => "-".into(),
            _ => format!("{:.1}% +- {:.1}%", 100.0 * share, 100.0 * error),
        };
        table.row([
            arm.family.to_string(),
            format!("{:.1}%", 100.0 * arm.probability),
            format!("{:.3} +- {:.3}", arm.mean, arm.deviation),
            arm.plays.to_string(),
            rewarded,
        ]);
    }
    let scores = [0.1, 0.5, 0.9].map(|at| mixture.history().quantile(at).map_or("-".into(), |q| format!("{q:.4}")));
    let [low, middle, high] = scores;
    Ok(format!(
        "{metric}: {} lessons, scores {low}, {middle}, {high} at 10%, 50%, 90%\n{}",
        mixture.lessons(),
        table.text()
    ))
}

/// An artifact as pairs of key and value.
pub(super) fn facts(config: &BeeConfig) -> Vec<(String, String)> {
    let record = &config.backbone;
    let row = |key: &str, value: String| (key.to_owned(), value);
    let named = if config.class_names.is_some() { "named in the artifact" } else { "without names" };
    let hash = |sha256: &Option<String>| sha256.clone().unwrap_or_else(|| "not recorded".into());
    let mut rows = vec![
        row("method", format!("{} (BEE)", config.method)),
        row("backbone", record.name.clone()),
        row("weights", record.weights.clone()),
        row("weights SHA-256", hash(&record.sha256)),
    ];
    match &config.context {
        None => rows.push(row("context", "the backbone's own features".into())),
        Some(context) => rows.extend([
            row("context", context.name.clone()),
            row("context weights", context.weights.clone()),
            row("context SHA-256", hash(&context.sha256)),
        ]),
    }
    let passes = config.passes(config.draws);
    rows.extend([
        row("sites", config.sites.join(", ")),
        row("steps", config.steps.to_string()),
        row("classes", format!("{}, {named}", config.classes)),
        row("draws", config.draws.to_string()),
        row("passes", format!("{passes} forward and backward for an explanation, and the metric's for each draw")),
    ]);
    rows.extend(config.figures.iter().map(|(name, value)| row(name, value.to_string())));
    rows.push(row("written by", config.created_with.clone()));
    rows
}

/// The tables of an artifact's mixtures; with an image, the probabilities in its context.
pub(super) fn mixtures(folder: &Path, image: Option<&Path>, global: &Global) -> anyhow::Result<String> {
    let compute = shared::compute(global)?;
    let artifact = BeeArtifact::load(folder, &compute.device)?;
    let mut text = String::new();
    let mut features = None;
    if let Some(path) = image {
        // The context is the same for every metric.
        let options = BeeOptions { metric: artifact.config.metrics.first().copied(), ..BeeOptions::default() };
        let weights = WeightOverrides::default();
        let load = |progress: &mut Progress<'_>| BeeExplainer::open(folder, &weights, options, &compute, progress);
        let opened = with_download_bar(global.quiet, load)?;
        warn_of_unverified(&opened.matched);
        let pixels = artifact.config.preprocessing.centre(&explainer_zoo::image::decode(path)?)?;
        features = Some(opened.features(Pixels::to_tensor(&[pixels], &compute.device)?));
        text += &format!("in the context of {}:\n\n", path.display());
    }
    if features.is_none() {
        text += "in the mean of the contexts learned from:\n\n";
    }
    let tables = artifact.mixtures.iter().map(|mixture| standings(mixture, features.as_deref(), artifact.config.seed));
    Ok(text + &tables.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use explainer_zoo::explainer::bee::{MixtureConfig, Mixtures, RewardMetric};

    #[test]
    fn every_arm_is_shown_with_its_uncertainty() {
        let mut mixtures = Mixtures::prior(&[RewardMetric::Ins], &MixtureConfig::new(4), 0);
        let text = standings(mixtures.of(RewardMetric::Ins).unwrap(), None, 0).unwrap();
        assert!(text.starts_with("INS: 0 lessons, scores -, -, -"), "{text}");
        mixtures = Mixtures::prior(&[RewardMetric::Ins], &MixtureConfig::new(4), 1);
        let text = standings(mixtures.of(RewardMetric::Ins).unwrap(), Some(&[1.0, 0.0, 0.0, 2.0]), 0).unwrap();
        for family in ["normal", "uniform", "blur", "constant", "train-data"] {
            assert!(text.lines().any(|line| line.starts_with(family) && line.contains("+-")), "{text}");
        }
    }
}
