//! `explainer-train evaluate`: metrics of a trained explainer.

use super::shared::{self, Meter, WeightArgs};
use super::{BadUsage, Global, print};
use crate::data::{FileSet, ImageSet, Loader, Plan};
use crate::metric::{Confidence, MaskedConfidence, Summary};
use crate::report::files::write_atomic;
use crate::report::table::Table;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

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
    /// Where the weights are.
    #[command(flatten)]
    pub places: WeightArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| "expected a number above 0, at most 100".to_owned())?;
    if value > 0.0 && value <= 100.0 { Ok(value) } else { Err("expected a number above 0, at most 100".to_owned()) }
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Results<'a> {
    artifact: String,
    /// Images measured.
    images: usize,
    /// Images that could not be read.
    broken: usize,
    /// Time for all images, the loading of the explainer aside.
    seconds: f64,
    figures: &'a [Summary],
    per_image: &'a [Measured],
}

/// One image's figures.
#[derive(Debug, Serialize)]
struct Measured {
    name: String,
    /// The predicted class, which is the one explained.
    class: usize,
    #[serde(flatten)]
    confidence: Confidence,
}

/// Evaluates.
pub(super) fn run(args: &EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(folder) = args.json.as_deref().and_then(Path::parent)
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        // Found out now and not after an hour of measuring.
        return Err(BadUsage(format!("--json: there is no folder {}; make it first", folder.display())).into());
    }
    let loaded = shared::open(&args.artifact, &args.places, global)?;
    let set = Arc::new(FileSet::open(&args.images, loaded.artifact.config.preprocessing.clone())?);
    let metric = MaskedConfidence { percents: args.percent.clone() };
    let plan = Plan { workers: loaded.compute.threads, ..Plan::validation(args.batch_size.get()) };

    let start = Instant::now();
    let mut loader = Loader::new(set.clone(), plan, 0)?;
    let mut meter = Meter::new(set.len(), global.quiet);
    let mut measured = Vec::with_capacity(set.len());
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let rows = loaded.measure(&metric, batch.images(&loaded.compute.device))?;
        for (index, (class, confidence)) in batch.indices.iter().zip(rows) {
            measured.push(Measured { name: set.name(*index), class, confidence });
        }
        meter.advance(batch.len(), loader.tally());
    }
    meter.finish(loader.tally());
    let seconds = start.elapsed().as_secs_f64();

    let confidences: Vec<Confidence> = measured.iter().map(|image| image.confidence.clone()).collect();
    let figures = metric.summary(&confidences);
    let results = Results {
        artifact: args.artifact.display().to_string(),
        images: measured.len(),
        broken: loader.tally().count(),
        seconds,
        figures: &figures,
        per_image: &measured,
    };
    if let Some(path) = &args.json {
        write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, &results)?;
            out.write_all(b"\n")
        })?;
    }
    print(&text(&results))
}

/// The table of figures, and what it took.
fn text(results: &Results<'_>) -> String {
    let mut table = Table::new(["percent kept", "AD", "IC", "AG"]);
    for Summary { percent, ad, ic, ag } in results.figures {
        table.row([percent.to_string(), format!("{ad:.2}"), format!("{ic:.2}"), format!("{ag:.2}")]);
    }
    let Results { images, broken, seconds, .. } = results;
    let missing = if *broken > 0 { format!(", {broken} could not be read") } else { String::new() };
    let rate = *images as f64 / (*seconds).max(f64::MIN_POSITIVE);
    format!("{}\n{images} images in {seconds:.1} seconds, {rate:.1} images/s{missing}\n", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_a_percentage() {
        let figures = [Summary { percent: 50.0, ad: 12.34, ic: 5.0, ag: 0.5 }];
        let results = |broken| {
            let artifact = "a".into();
            text(&Results { artifact, images: 30, broken, seconds: 2.0, figures: &figures, per_image: &[] })
        };
        let expected = "\
percent kept     AD    IC    AG
------------  -----  ----  ----
50            12.34  5.00  0.50

30 images in 2.0 seconds, 15.0 images/s, 1 could not be read
";
        assert_eq!(results(1), expected);
        assert!(results(0).ends_with("images/s\n"));
    }

    #[test]
    fn json_has_each_image_flat() {
        let confidence = Confidence { clean: 0.5, masked: vec![0.25] };
        let image = Measured { name: "a.png".into(), class: 3, confidence };
        let expected = serde_json::json!({"name": "a.png", "class": 3, "clean": 0.5, "masked": [0.25]});
        assert_eq!(serde_json::to_value(&image).unwrap(), expected);
    }

    #[test]
    fn a_missing_folder_for_the_figures_is_found_first() {
        let args = EvaluateArgs {
            artifact: "/nowhere/artifact".into(),
            images: "/nowhere/images".into(),
            json: Some("/nowhere/figures.json".into()),
            percent: vec![100.0],
            batch_size: NonZeroUsize::MIN,
            places: WeightArgs::default(),
        };
        let error = run(&args, &Global::default()).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().contains("no folder /nowhere"), "{error}");
    }
}
