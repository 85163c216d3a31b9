//! `explainer-train evaluate`: metrics of a trained explainer.

use super::against::{Other, PerImage, Theirs, columns, other, row};
use super::shared::{self, WeightArgs};
use super::{BadUsage, Global, print};
use crate::data::{DataError, Images, Loader, Objects, Plan, scenes_given};
use crate::explain::LearnedExplainFn;
use crate::report::progress::Meter;
use crate::report::table::Table;
use clap::Args;
use explainer_metrics::{
    Attributions, Better, Confidence, Difference, Estimate, Family, MaskedConfidence, Metric, MetricError,
    MetricResult, MetricSpec, Needs, Results, Row, Summary, metric, names_by_family,
};
use explainer_zoo::files::write_atomic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Percentages of AD, IC and AG where nothing else is asked for.
const PERCENTS: [f64; 3] = [100.0, 50.0, 15.0];

/// Measure an explainer: AD, IC, AG, insertion, deletion, ROAD and other metrics
///
/// For AD, IC and AG each image is masked with the map of its predicted class, of which the top v percent of pixels are
/// kept. AD: how much of the class's probability is lost, lower is better. IC: in how many images it rises, higher is
/// better. AG: how much of the missing probability is gained, higher is better. All in percent.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct EvaluateArgs {
    /// Folder of a trained explainer, `artifact/` in a run's output; or `hf://owner/name[@revision]`, or `zoo:NAME`
    pub artifact: PathBuf,
    /// Folder of images, a list file with `path[,class]` on each line, tar files (`val-{00..12}.tar`), or `shapes[:N]`: N of
    /// the quickstart's scenes (256), whose objects are known
    #[arg(long, value_name = "DIR|LIST", required = true)]
    pub images: PathBuf,
    /// What to measure; see the list below
    #[arg(long, value_name = "METRIC,...", value_delimiter = ',', value_parser = known)]
    pub metrics: Vec<String>,
    /// Measure AD, IC and AG with these percentages of pixels kept: the ones with the highest map values [default:
    /// 100,50,15, or none with --metrics]
    #[arg(long, value_name = "V,...", value_delimiter = ',', value_parser = percent)]
    pub percent: Vec<f64>,
    /// Write the figures and the values of each image to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the values of each image to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Compare image by image with a method without training, such as grad-cam; see the list below. Or with another
    /// explainer of the same classifier: the file that its evaluation wrote with --csv
    #[arg(long, value_name = "METHOD|FILE", value_parser = other)]
    pub against: Option<Other>,
    /// Where the objects on the images are: a CSV file (image,xmin,ymin,xmax,ymax or image,mask), a COCO file (.json), a
    /// VOC file (.xml) or a folder of them
    #[arg(long, value_name = "FILE|DIR")]
    pub objects: Option<PathBuf>,
    /// Where people look at the images: a CSV file (image,x,y)
    #[arg(long, value_name = "FILE")]
    pub fixations: Option<PathBuf>,
    /// Images at a time, whole or perturbed; the figures do not depend on it
    #[arg(long, value_name = "N", default_value = "32")]
    pub batch_size: NonZeroUsize,
    /// Where the weights are.
    #[command(flatten)]
    pub places: WeightArgs,
}

fn after_help() -> String {
    format!(
        "\
Metrics, by family:
{}
They are described in the documentation of `explainer_metrics`.

Methods for --against: {}.
They are described in the documentation of `explainer_attribution`. Some take thousands of passes an image.

Examples:
  explainer-train evaluate checkpoints/ttame_vit/artifact --images /data/imagenet/val
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --percent 50 --json metrics.json
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --metrics ad@50,insertion --csv ttame.csv
  explainer-train evaluate checkpoints/lcam/artifact --images val.csv --metrics ad@50,insertion --against ttame.csv
  explainer-train evaluate checkpoints/ttame_vit/artifact --images val.csv --against rise@1000",
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

fn known(text: &str) -> Result<String, MetricError> {
    metric(text).map(|metric| metric.spec().name)
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report<'a> {
    artifact: String,
    /// Images measured.
    images: usize,
    /// Images that could not be read.
    broken: usize,
    /// Time for all images, the loading of the explainer aside.
    seconds: f64,
    /// AD, IC and AG at the percentages.
    figures: &'a [Summary],
    /// Every metric, with its interval.
    metrics: &'a [MetricResult],
    /// The same of another explainer, subtracted.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against<'a>>,
    per_image: &'a [Measured],
}

/// How the figures differ from those of another explainer.
#[derive(Clone, Debug, Serialize)]
struct Against<'a> {
    /// The file, or the method.
    name: &'a str,
    /// The method's own figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricResult>,
    /// Passes that the method made for an image, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<PerImage>,
    differences: &'a [Difference],
}

/// One image's figures.
#[derive(Debug, Serialize)]
struct Measured {
    name: String,
    /// The predicted class, which is the one explained.
    class: usize,
    #[serde(flatten)]
    confidence: Confidence,
    /// Every metric by its name; null where it is undefined.
    values: BTreeMap<String, Option<f64>>,
}

/// Evaluates.
pub(super) fn run(args: &EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    for (option, file) in [("--json", &args.json), ("--csv", &args.csv)] {
        if let Some(folder) = file.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            // Found out now and not after an hour of measuring.
            return Err(BadUsage(format!("{option}: there is no folder {}; make it first", folder.display())).into());
        }
    }
    let read = match &args.against {
        Some(Other::File(file)) => Some(Results::read_csv(file)?),
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
    let loaded = shared::open(&found.folder, &args.places, global)?;
    let preprocessing = &loaded.artifact.config.preprocessing;
    let set = Images::open(&args.images, preprocessing).map_err(misused)?;
    let randomised = match specs.iter().any(|spec| spec.needs == Needs::Randomised) {
        true => shared::randomised(&loaded, &args.places, global)?,
        false => Vec::new(),
    };
    let plan = Plan { workers: loaded.compute.threads, ..Plan::validation(args.batch_size.get()) };

    let start = Instant::now();
    let all = set.any();
    let mut loader = Loader::new(all.clone(), plan, 0)?;
    let mut meter = Meter::new(all.len(), global.quiet);
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut results = Results { metrics: names.clone(), rows: Vec::with_capacity(all.len()) };
    let mut theirs = match &args.against {
        Some(Other::Method(method)) => Some(Theirs::of(method, &loaded, names, args.batch_size)?),
        Some(Other::File(file)) => Some(Theirs::read(file, read.unwrap_or_default())),
        None => None,
    };
    let asked = LearnedExplainFn { trained: &loaded, randomised: &randomised };
    let mut measured = Vec::with_capacity(all.len());
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let truth = batch.indices.iter().map(|index| set.truth(*index, &objects, preprocessing));
        let truth = truth.collect::<Result<Vec<_>, _>>()?;
        let images = batch.images(&loaded.compute.device);
        let (classes, confidences, ours, others) = loaded.with_subject(images, truth, |subject, maps| {
            let case = Attributions::new(subject, maps)?.with_explainer(&asked);
            let ours = columns(&case, &metrics)?;
            let others = theirs.as_mut().map(|theirs| theirs.measure(subject, &metrics, &randomised)).transpose()?;
            Ok((subject.classes().to_vec(), masked.confidences(&case), ours, others.unwrap_or_default()))
        })?;
        for (place, ((index, class), confidence)) in batch.indices.iter().zip(classes).zip(confidences).enumerate() {
            let values = row(&ours, place);
            if let Some(theirs) = theirs.as_mut().filter(|_| !others.is_empty()) {
                theirs.add(Row { image: all.id(*index), class, values: row(&others, place) });
            }
            let named = results.metrics.iter().cloned().zip(values.iter().copied()).collect();
            measured.push(Measured { name: all.name(*index), class, confidence, values: named });
            results.rows.push(Row { image: all.id(*index), class, values });
        }
        meter.advance(batch.len(), loader.tally());
    }
    meter.finish(loader.tally());
    let seconds = start.elapsed().as_secs_f64();

    let figures = figures(&specs, &results);
    if let Some(path) = &args.csv {
        results.write_csv(path)?;
    }
    let differences = match &theirs {
        Some(theirs) => results.differences(theirs.results())?,
        None => Vec::new(),
    };
    let against = theirs.as_ref().map(|theirs| {
        let passes = theirs.passes();
        let metrics = passes.map_or_else(Vec::new, |_| self::figures(&specs, theirs.results()));
        Against { name: theirs.name(), metrics, passes, differences: &differences }
    });
    let report = Report {
        artifact: args.artifact.display().to_string(),
        images: measured.len(),
        broken: loader.tally().count(),
        seconds,
        figures: &summaries(&masked.percents, &figures),
        metrics: &figures,
        against,
        per_image: &measured,
    };
    if let Some(path) = &args.json {
        write_atomic(path, |out| {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            out.write_all(b"\n")
        })?;
    }
    print(&text(&report))
}

/// Scenes that cannot be had are a mistake on the command line.
fn misused(error: DataError) -> anyhow::Error {
    match error {
        DataError::SceneCount { .. } | DataError::SceneSide { .. } => BadUsage(format!("--images: {error}")).into(),
        other => other.into(),
    }
}

/// The metrics over all images.
fn figures(specs: &[MetricSpec], results: &Results) -> Vec<MetricResult> {
    let figure =
        |(place, spec): (usize, &MetricSpec)| MetricResult { spec: spec.clone(), estimate: results.estimate(place) };
    specs.iter().enumerate().map(figure).collect()
}

/// Refuses metrics that would be undefined for every image.
fn known_enough(args: &EvaluateArgs, specs: &[MetricSpec]) -> Result<(), BadUsage> {
    for spec in specs {
        let (known, option) = match spec.needs {
            Needs::Nothing | Needs::Explainer | Needs::Randomised => (true, ""),
            Needs::Objects => (args.objects.is_some() || scenes_given(&args.images).is_some(), "--objects"),
            Needs::Fixations => (args.fixations.is_some(), "--fixations"),
        };
        if !known {
            return Err(BadUsage(format!("{} needs {option}", spec.name)));
        }
    }
    Ok(())
}

/// AD, IC and AG at the percentages, then the metrics asked for by name, each once.
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

/// The figures of AD, IC and AG by percentage.
fn summaries(percents: &[f64], figures: &[MetricResult]) -> Vec<Summary> {
    let mean = |stem: &str, percent: f64| {
        let name = format!("{stem}@{percent}");
        let figure = figures.iter().find(|figure| figure.spec.name == name);
        figure.and_then(|figure| figure.estimate.mean).unwrap_or(f64::NAN)
    };
    let summary = |percent: &f64| {
        let [ad, ic, ag] = ["ad", "ic", "ag"].map(|stem| mean(stem, *percent));
        Summary { percent: *percent, ad, ic, ag }
    };
    percents.iter().map(summary).collect()
}

/// The table of figures, what is missing in it, the comparison, and what it took.
fn text(report: &Report<'_>) -> String {
    let mut text = format!("{}\n", table(report.metrics));
    if let Some(Against { name, metrics, passes, differences }) = &report.against {
        if let Some(PerImage { forward, backward }) = passes {
            let passes = format!("{forward:.1} forward and {backward:.1} backward passes an image");
            text += &format!("{name}, {passes}:\n\n{}\n", table(metrics));
        }
        let mut table = Table::new(["difference", "mean", "std. error", "95% interval", "images"]);
        for Difference { name, estimate } in *differences {
            let spec = report.metrics.iter().map(|figure| &figure.spec).find(|spec| spec.name == *name);
            let cells = cells(estimate, spec.map_or("", |spec| spec.unit));
            table.row([name].into_iter().chain(&cells).chain([&estimate.defined.to_string()]));
        }
        text += &format!("{}this explainer less {name}, image by image\n\n", table.text());
    }
    let Report { images, broken, seconds, .. } = report;
    let missing = if *broken > 0 { format!(", {broken} could not be read") } else { String::new() };
    let rate = *images as f64 / (*seconds).max(f64::MIN_POSITIVE);
    text + &format!("{images} images in {seconds:.1} seconds, {rate:.1} images/s{missing}\n")
}

/// The figures, and of how many images they are missing.
fn table(metrics: &[MetricResult]) -> String {
    let mut table = Table::new(["metric", "mean", "std. error", "95% interval", "unit", "better", "family"]);
    let mut missing = String::new();
    for MetricResult { spec, estimate } in metrics {
        let better = match spec.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        };
        let cells = cells(estimate, spec.unit);
        table.row([&spec.name].into_iter().chain(&cells).map(String::as_str).chain([
            spec.unit,
            better,
            &spec.family.to_string(),
        ]));
        if estimate.undefined > 0 {
            missing += &format!("{} is undefined for {} images, which are left out\n", spec.name, estimate.undefined);
        }
    }
    format!("{}{missing}", table.text())
}

/// Mean, standard error and interval, with two digits behind the point of a percentage and four otherwise.
fn cells(estimate: &Estimate, unit: &str) -> [String; 3] {
    let digits = if unit == "percent" { 2 } else { 4 };
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let interval = estimate.interval.map_or("-".to_owned(), |[low, high]| format!("{low:.digits$} .. {high:.digits$}"));
    [number(estimate.mean), number(estimate.standard_error), interval]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, mean: f64, undefined: usize) -> MetricResult {
        let (standard_error, interval) = (Some(0.5), Some([mean - 1.0, mean + 1.0]));
        let estimate = Estimate { mean: Some(mean), standard_error, interval, defined: 29, undefined };
        MetricResult { spec: metric(name).unwrap().spec(), estimate }
    }

    #[test]
    fn the_table_has_a_row_a_metric() {
        let figures = [figure("ad@50", 12.34, 0), figure("insertion", 0.5, 1)];
        let estimate = Estimate { standard_error: None, interval: None, ..figures[0].estimate };
        let differences = [Difference { name: "ad@50".into(), estimate }];
        let results = |broken, against| {
            let artifact = "a".into();
            let metrics = &figures;
            text(&Report { artifact, images: 30, broken, seconds: 2.0, figures: &[], metrics, against, per_image: &[] })
        };
        let expected = "\
metric       mean  std. error       95% interval      unit  better        family
---------  ------  ----------  -----------------  --------  ------  ------------
ad@50       12.34        0.50     11.34 .. 13.34   percent   lower  faithfulness
insertion  0.5000      0.5000  -0.5000 .. 1.5000  fraction  higher  faithfulness
insertion is undefined for 1 images, which are left out

30 images in 2.0 seconds, 15.0 images/s, 1 could not be read
";
        assert_eq!(results(1, None), expected);
        let against = Against { name: "other.csv", metrics: Vec::new(), passes: None, differences: &differences };
        let expected = "\n\
difference   mean  std. error  95% interval  images
----------  -----  ----------  ------------  ------
ad@50       12.34           -             -      29
this explainer less other.csv, image by image

30 images in 2.0 seconds, 15.0 images/s
";
        let found = results(0, Some(against));
        assert!(found.ends_with(expected), "{found}");
    }

    #[test]
    fn json_has_each_image_flat() {
        let confidence = Confidence { clean: Some(0.5), masked: vec![Some(0.25)] };
        let values = [("ad@50".to_owned(), Some(50.0)), ("sic".to_owned(), None)].into();
        let image = Measured { name: "a.png".into(), class: 3, confidence, values };
        let expected = serde_json::json!({
            "name": "a.png", "class": 3, "clean": 0.5, "masked": [0.25], "values": {"ad@50": 50.0, "sic": null}
        });
        assert_eq!(serde_json::to_value(&image).unwrap(), expected);
        let figure = serde_json::to_value(figure("ad@50", 12.0, 0)).unwrap();
        let found = ["name", "family", "mean", "better"].map(|key| &figure[key]);
        assert_eq!(serde_json::json!(found), serde_json::json!(["ad@50", "faithfulness", 12.0, "lower"]));
    }

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
            places: WeightArgs::default(),
        };
        let error = run(&args, &Global::default()).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().contains("no folder /nowhere"), "{error}");
    }
}
