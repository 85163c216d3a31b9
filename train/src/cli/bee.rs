//! What the commands show of BEE: runs, explanations, mixtures.

use super::explain::ExplainArgs;
use super::pass::Pass;
use super::shared;
use super::{BadUsage, Global};
use crate::explain::ClassNames;
use crate::explain::bee::{Drawn, LoadedBee, Moved};
use crate::fit::bee::Finished;
use crate::report::progress::{warn_of_unverified, with_download_bar};
use crate::report::table::Table;
use explainer_zoo::artifact::bee::{BeeArtifact, BeeConfig};
use explainer_zoo::explainer::bee::{BeeError, Metric, Mixture, Mode};
use explainer_zoo::image::Pixels;
use std::path::Path;

/// The closing tables of a run.
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

/// How the arms of a mixture stand, for an image of these features or in the mean of all contexts.
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

/// What there is to know of an explainer, by key.
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

/// The mixtures of an artifact; for an image, if one is given, the arms' probabilities in its context.
pub(super) fn mixtures(folder: &Path, image: Option<&Path>, global: &Global) -> anyhow::Result<String> {
    let compute = shared::compute(global)?;
    let mut text = String::new();
    let (artifact, features) = match image {
        None => (BeeArtifact::load(folder, &compute.device)?, None),
        Some(path) => {
            let loaded = open(folder, Moved::default(), global)?;
            let pixels = loaded.artifact.config.preprocessing.centre(&explainer_zoo::image::decode(path)?)?;
            let features = loaded.features(Pixels::to_tensor(&[pixels], &compute.device)?);
            text += &format!("in the context of {}:\n\n", path.display());
            (loaded.artifact, Some(features))
        }
    };
    if features.is_none() {
        text += "in the mean of the contexts learned from:\n\n";
    }
    let tables = artifact.mixtures.iter().map(|mixture| standings(mixture, features.as_deref(), artifact.config.seed));
    Ok(text + &tables.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Opens a BEE explainer with its classifiers, and warns if nobody can tell whether they belong together.
fn open(folder: &Path, moved: Moved<'_>, global: &Global) -> anyhow::Result<LoadedBee> {
    let compute = shared::compute(global)?;
    let loaded = with_download_bar(global.quiet, |progress| LoadedBee::open(folder, moved, &compute, progress))?;
    warn_of_unverified(&loaded.matched);
    Ok(loaded)
}

/// The metric that was asked for, or the only one there is.
fn metric(asked: Option<&str>, known: &[Metric]) -> Result<Metric, BadUsage> {
    match (asked, known) {
        (Some(name), _) => name.parse::<Metric>().map_err(|error| BadUsage(format!("--metric: {error}"))),
        (None, [only]) => Ok(*only),
        (None, _) => {
            let names: Vec<&str> = known.iter().map(|metric| metric.name()).collect();
            Err(BadUsage(format!("--metric is needed, this explainer learned for {}", names.join(", "))))
        }
    }
}

/// Explains images by the best of several draws.
pub(super) fn explain(args: &ExplainArgs, global: &Global) -> anyhow::Result<()> {
    if args.places.auxiliary_weights.is_some() {
        return Err(BadUsage("--auxiliary-weights: a BEE explainer has no auxiliary classifier".into()).into());
    }
    let context = args.context_weights.as_deref();
    let moved = Moved { backbone: args.places.weights.as_deref(), context };
    let loaded = open(&args.artifact, moved, global)?;
    let config = &loaded.artifact.config;
    let metric = metric(args.metric.as_deref(), &config.metrics)?;
    loaded.artifact.mixtures.of(metric).map_err(|error| BadUsage(format!("--metric: {error}")))?;
    let names = ClassNames::new(config.class_names.as_deref(), config.classes);
    let which = args.which(&names)?;
    let mode = match args.family {
        Some(family) => Mode::Fixed(family),
        None if args.fine_tune => Mode::FineTuned,
        None => Mode::Pretrained,
    };
    let draws = args.draws.map_or(config.draws, usize::from);
    let device = &loaded.compute.device;
    Pass {
        preprocessing: &config.preprocessing,
        names: &names,
        columns: &[metric.name(), "baseline"],
        how: match args.family {
            Some(family) => format!(", each by the best of {draws} draws from the family {family}"),
            None => format!(", each by the best of {draws} draws"),
        },
        batch: 1,
        workers: loaded.compute.threads,
    }
    .run(args, global, |batch| {
        let drawn = loaded.explain(batch.images(device), which, metric, draws, mode)?;
        let shown = |Drawn { map, score, family, .. }| (map, vec![format!("{score:.4}"), family.to_string()]);
        Ok(vec![drawn.into_iter().map(shown).collect()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use explainer_zoo::explainer::bee::{MixtureConfig, Mixtures};

    #[test]
    fn a_metric_is_asked_for_unless_there_is_one_alone() {
        assert_eq!(metric(Some("del"), &[Metric::Ins]).map_err(|e| e.0), Ok(Metric::Del));
        assert_eq!(metric(None, &[Metric::Ins]).map_err(|e| e.0), Ok(Metric::Ins));
        let message = metric(None, &[Metric::Ins, Metric::Del]).unwrap_err().0;
        assert!(message.contains("--metric") && message.contains("INS, DEL"), "{message}");
        assert!(metric(Some("ROAD"), &[Metric::Ins]).unwrap_err().0.contains("ROAD"));
    }

    #[test]
    fn every_arm_is_shown_with_its_uncertainty() {
        let mut mixtures = Mixtures::prior(&[Metric::Ins], &MixtureConfig::new(4), 0);
        let text = standings(mixtures.of(Metric::Ins).unwrap(), None, 0).unwrap();
        assert!(text.starts_with("INS: 0 lessons, scores -, -, -"), "{text}");
        mixtures = Mixtures::prior(&[Metric::Ins], &MixtureConfig::new(4), 1);
        let text = standings(mixtures.of(Metric::Ins).unwrap(), Some(&[1.0, 0.0, 0.0, 2.0]), 0).unwrap();
        for family in ["normal", "uniform", "blur", "constant", "train-data"] {
            assert!(text.lines().any(|line| line.starts_with(family) && line.contains("+-")), "{text}");
        }
    }
}
