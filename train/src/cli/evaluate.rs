//! `explainer-train evaluate`: metrics of a trained explainer.

use super::Global;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure an explainer: average drop (AD), increase in confidence (IC), average gain (AG)
///
/// Each image is masked with the map of its predicted class, of which the top v percent of pixels are kept. AD: how
/// much of the class's probability is lost, lower is better. IC: in how many images it rises, higher is better. AG: how
/// much of the missing probability is gained, higher is better. All in percent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train evaluate checkpoints/ttame_vit/artifact --images /data/imagenet/val
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --percent 50 --json metrics.json")]
pub struct EvaluateArgs {
    /// Folder of a trained explainer, `artifact/` in a run's output
    pub artifact: PathBuf,
    /// Folder of images, or a list file with `path[,class]` on each line
    #[arg(long, value_name = "DIR|LIST", required = true)]
    pub images: PathBuf,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Percentages of pixels kept: the ones with the highest map values
    #[arg(long, value_name = "V,...", value_delimiter = ',', default_value = "100,50,15", value_parser = percent)]
    pub percent: Vec<f64>,
    /// Images at a time; the figures do not depend on it
    #[arg(long, value_name = "N", default_value = "32")]
    pub batch_size: NonZeroUsize,
    /// The classifier's weights, where they are no longer at the place that the artifact names
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| "expected a number above 0, at most 100".to_owned())?;
    if value > 0.0 && value <= 100.0 { Ok(value) } else { Err("expected a number above 0, at most 100".to_owned()) }
}

/// Evaluates.
pub(super) fn run(_args: &EvaluateArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("evaluate is not built yet")
}
