//! `explainer-train evaluate`: metrics of a trained explainer.

use super::shared::{self, BeeArgs, WeightArgs};
use super::{BadUsage, Global, eprint, print};
use crate::data::{BrokenImages, DataError, EvaluationSet, Objects, scene_count};
use crate::evaluation::{Candidate, Evaluator, Reference, Report, evaluate, needs_randomised};
use crate::report::progress::{ImageProgress, with_download_bar};
use clap::Args;
use explainer_attribution::{MethodContext, MethodExplainer, MethodSpec};
use explainer_metrics::{
    Family, MaskedConfidence, Metric, MetricError, MetricSpec, Requirement, Results, metric, names_by_family,
};
use explainer_zoo::explain::Explain;
use explainer_zoo::files::{STDOUT, write_atomic};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Default percentages of AD, IC and AG.
const PERCENTS: [f64; 3] = [100.0, 50.0, 15.0];

/// Measure an explainer: AD, IC, AG, insertion, deletion, ROAD and other metrics
///
/// For AD, IC and AG each image is masked with the heat map of its predicted class; the pixels with the highest map values
/// are kept. AD: average drop of the class's probability, lower is better. IC: share of images whose probability increases,
/// higher is better. AG: average gain of probability, relative to the possible gain, higher is better. All in percent.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct EvaluateArgs {
    /// Trained explainer: the output folder of a run or `artifact/` in it, `hf://owner/name[@revision]`, or `zoo:NAME`
    pub artifact: PathBuf,
    /// Images: a folder, a list file with `path[,class]` on each line, tar files (`val-{00..12}.tar`), or `shapes[:N]`: N
    /// scenes of the quickstart (256), whose objects are known
    #[arg(long, value_name = "DIR|LIST", required = true)]
    pub images: PathBuf,
    /// Metrics to measure; see the list below
    #[arg(long, value_name = "METRIC,...", value_delimiter = ',', value_parser = known)]
    pub metrics: Vec<String>,
    /// Percentages of the pixels that AD, IC and AG keep, those with the highest map values [default: 100,50,15, or none
    /// with --metrics]
    #[arg(long, value_name = "V,...", value_delimiter = ',', value_parser = percent)]
    pub percent: Vec<f64>,
    /// Write the results and the values of each image to this JSON file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the values of each image to this CSV file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Compare image by image with a method without training, such as grad-cam (see the list below), or with another
    /// explainer of the same classifier: the file that its evaluation wrote with --csv
    #[arg(long, value_name = "METHOD|FILE")]
    pub against: Option<Reference>,
    /// Objects in the images: a CSV file (image,xmin,ymin,xmax,ymax or image,mask), a COCO file (.json), a VOC file (.xml)
    /// or a folder of VOC files
    #[arg(long, value_name = "FILE|DIR")]
    pub objects: Option<PathBuf>,
    /// Eye fixations on the images: a CSV file (image,x,y)
    #[arg(long, value_name = "FILE")]
    pub fixations: Option<PathBuf>,
    /// Images per batch, whole or perturbed; the results do not depend on it
    #[arg(long, value_name = "N", default_value = "32")]
    pub batch_size: NonZeroUsize,
    /// Share of the images that may be unreadable, 0 to 1; they are left out and counted
    #[arg(long, value_name = "FRACTION", default_value = "0.01", value_parser = fraction)]
    pub max_broken: f64,
    /// Where the weights are.
    #[command(flatten)]
    pub places: WeightArgs,
    /// BEE's options.
    #[command(flatten)]
    pub bee: BeeArgs,
}

fn after_help() -> String {
    format!(
        "\
Metrics, by family:
{}
The documentation of `explainer_metrics` describes them.

Methods for --against: {}.
The documentation of `explainer_attribution` describes them. Some take thousands of passes per image.

Examples:
  explainer-train evaluate checkpoints/ttame_vit/artifact --images /data/imagenet/val
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --percent 50 --json metrics.json
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --metrics ad@50,insertion --csv ttame.csv
  explainer-train evaluate checkpoints/lcam/artifact --images val.csv --metrics ad@50,insertion --against ttame.csv
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --against rise@1000
  explainer-train evaluate checkpoints/bee_vit/artifact --images val.csv --metric INS --draws 8",
        metric_families(),
        explainer_attribution::names().join(", ")
    )
}

/// The metrics of each family, one line a family.
fn metric_families() -> String {
    let line = |(family, names): (Family, Vec<String>)| format!("  {family}: {}", names.join(", "));
    names_by_family().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| "expected a number above 0, at most 100".to_owned())?;
    if value > 0.0 && value <= 100.0 { Ok(value) } else { Err("expected a number above 0, at most 100".to_owned()) }
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn known(text: &str) -> Result<String, MetricError> {
    metric(text).map(|metric| metric.spec().name)
}

/// Evaluates.
pub(super) fn run(args: &EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    for (option, file) in [("--json", &args.json), ("--csv", &args.csv)] {
        if let Some(folder) = file.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            // Refused now and not after an hour of measuring.
            return Err(BadUsage(format!("{option}: there is no folder {}; make it first", folder.display())).into());
        }
    }
    let values = match &args.against {
        Some(Reference::File(file)) => Some((file.display().to_string(), Results::read_csv(file)?)),
        _ => None,
    };
    let percents = match args.percent.as_slice() {
        [] if args.metrics.is_empty() => PERCENTS.to_vec(),
        percents => percents.to_vec(),
    };
    let metrics = wanted(&percents, &args.metrics)?;
    let masked = MaskedConfidence { percents };
    let specs: Vec<MetricSpec> = metrics.iter().map(|metric| metric.spec()).collect();
    known_enough(args, &specs)?;
    let mut objects = Objects::default();
    for file in [&args.objects, &args.fixations].into_iter().flatten() {
        objects = objects.with(Objects::open(file)?);
    }
    let found = shared::find(&args.artifact, global)?;
    found.trusted(&args.places.given())?;
    let compute = shared::compute(global)?;
    let opened = shared::open(&found, &args.places, &args.bee, global)?;
    let images = EvaluationSet::open(&args.images, opened.explainer.preprocessing()).map_err(misused)?;
    let randomised = match needs_randomised(&specs) {
        true => with_download_bar(global.quiet, |progress| opened.cascade(&compute, progress))?,
        false => Vec::new(),
    };
    let explainer = Candidate::new(opened.explainer, &randomised);
    let method = match &args.against {
        Some(Reference::Method(method)) => {
            let made = reference(method, explainer.explainer.as_ref(), args.batch_size.get())?;
            Some(Candidate::new(Arc::new(made), &randomised))
        }
        _ => None,
    };
    let batch_size = args.batch_size;
    let evaluator = Evaluator {
        metrics: &metrics,
        masked: &masked,
        images: &images,
        objects: &objects,
        compute: &compute,
        batch_size,
    };
    let mut meter = ImageProgress::new(images.any().len(), global.quiet);
    let mut broken = BrokenImages::new(0, 1.0);
    let evaluation = evaluate(&evaluator, &explainer, method.as_ref(), args.max_broken, |images, found| {
        meter.advance(images, found);
        broken.clone_from(found);
    })?;
    meter.finish(&broken);
    let warnings = objects.warnings();
    warnings.iter().for_each(|warning| eprint(&format!("warning: {warning}\n")));
    if let Some(path) = &args.csv {
        evaluation.results.write_csv(path)?;
    }
    let against = match (method, values) {
        (Some(method), _) => Some(evaluation.against_method(method.explainer.name())?),
        (None, Some((name, values))) => Some(evaluation.against_values(name, &values)?),
        (None, None) => None,
    };
    let report = Report { against, warnings, ..evaluation.report(args.artifact.display().to_string()) };
    if let Some(path) = &args.json {
        write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            out.write_all(b"\n")
        })?;
    }
    // Standard output belongs to the file that is written to it.
    let piped = [&args.json, &args.csv].into_iter().flatten().any(|path| path.as_os_str() == STDOUT);
    if piped {
        eprint(&report.text())
    } else {
        print(&report.text())?
    }
    Ok(())
}

/// The method of `--against`, for the classifier of an explainer, with at most `batch_size` perturbed images in memory.
fn reference(spec: &MethodSpec, explainer: &dyn Explain, batch_size: usize) -> Result<MethodExplainer, BadUsage> {
    let (backbone, preprocessing) = (explainer.backbone(), explainer.preprocessing());
    let context = MethodContext { preprocessing, batch_size, ..MethodContext::new(backbone.as_ref()) };
    let made = spec.build(&context).map_err(|error| BadUsage(format!("--against: {error}")))?;
    Ok(MethodExplainer::new(*spec, made, backbone.clone(), preprocessing.clone(), explainer.device()))
}

/// A number of scenes that makes no sense is a mistake on the command line.
fn misused(error: DataError) -> anyhow::Error {
    match error {
        DataError::SceneCount { .. } | DataError::SceneSide { .. } => BadUsage(format!("--images: {error}")).into(),
        other => other.into(),
    }
}

/// Refuses metrics that would be undefined for every image.
fn known_enough(args: &EvaluateArgs, specs: &[MetricSpec]) -> Result<(), BadUsage> {
    for spec in specs {
        let (known, option) = match spec.needs {
            Requirement::Nothing | Requirement::Explainer | Requirement::Randomised => (true, ""),
            Requirement::Objects => (args.objects.is_some() || scene_count(&args.images).is_some(), "--objects"),
            Requirement::Fixations => (args.fixations.is_some(), "--fixations"),
        };
        if !known {
            return Err(BadUsage(format!("{} needs {option}", spec.name)));
        }
    }
    Ok(())
}

/// AD, IC and AG at the percentages, then the metrics of `names`, each once.
fn wanted(percents: &[f64], names: &[String]) -> Result<Vec<Box<dyn Metric>>, MetricError> {
    let masked = percents.iter().flat_map(|percent| ["ad", "ic", "ag"].map(|stem| format!("{stem}@{percent}")));
    let mut metrics: Vec<Box<dyn Metric>> = Vec::new();
    for name in masked.chain(names.iter().cloned()) {
        let metric = metric(&name)?;
        if metrics.iter().all(|other| other.spec().name != metric.spec().name) {
            metrics.push(metric);
        }
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_measured_once() {
        let names = ["ad@50", "deletion", "ic@50", "deletion"].map(String::from);
        let wanted = wanted(&[50.0], &names).unwrap();
        let wanted: Vec<String> = wanted.iter().map(|metric| metric.spec().name).collect();
        assert_eq!(wanted, ["ad@50", "ic@50", "ag@50", "deletion"]);
    }

    #[test]
    fn a_missing_folder_for_the_figures_is_found_first() {
        let args = EvaluateArgs {
            artifact: "/nowhere/artifact".into(),
            images: "/nowhere/images".into(),
            metrics: Vec::new(),
            percent: vec![100.0],
            json: Some("/nowhere/figures.json".into()),
            csv: None,
            against: None,
            objects: None,
            fixations: None,
            batch_size: NonZeroUsize::MIN,
            max_broken: 0.0,
            places: WeightArgs::default(),
            bee: BeeArgs::default(),
        };
        let error = run(&args, &Global::default()).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().contains("no folder /nowhere"), "{error}");
    }
}
