//! A whole comparison: from its configuration to the report.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use explainer_zoo::device::Compute;
use explainer_zoo::weights::hash::{sha256, sha256_file};

use super::classifier::ComparedClassifier;
use super::error::CompareError;
use super::explainers::{ComparedExplainer, Shared};
use super::gallery::{Gallery, Painter, worst};
use super::journal::{Fingerprint, Journal};
use super::measure::measure;
use super::report::{Measurements, Report, Setting};
use super::sample::sample;
use super::trained::trained;
use crate::config::CompareConfig;
use crate::data::{BrokenImages, EvaluationSet, ImageSet, Objects};
use crate::evaluation::{Evaluator, needs_randomised};
use crate::explain::ClassNames;
use crate::explain::file_names::{FileNames, slug};
use crate::report::progress::line;
use explainer_metrics::{MaskedConfidence, MetricSpec, metric};
use explainer_zoo::files::write_atomic;

/// The program and its version, for the report and the fingerprint.
const PROGRAM: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// How a comparison ended.
#[derive(Debug)]
pub enum Outcome {
    /// The report is written.
    Finished {
        /// The report.
        report: Box<Report>,
        /// Number of heat maps that were measured in this run and not in an earlier one.
        fresh: usize,
    },
    /// Interrupted; the measured values are kept.
    Stopped {
        /// At which explainer.
        at: String,
    },
}

/// Runs the comparison of `config`; the report names `command` as the command that reproduces it.
///
/// # Errors
/// [`CompareError`]; the values measured before it are kept.
pub fn run(
    config: &CompareConfig,
    command: &str,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Outcome, CompareError> {
    let compute = Compute::new(&config.device, config.threads)?;
    let metrics = config.metrics.iter().map(|name| metric(name)).collect::<Result<Vec<_>, _>>()?;
    let specs: Vec<MetricSpec> = metrics.iter().map(|metric| metric.spec()).collect();
    let objects = annotations(config)?;
    let folders = Folders::new(config)?;

    let Some(trained) = trained(config, quiet, interrupter)? else {
        return Ok(Outcome::Stopped { at: "while an explainer was trained".into() });
    };
    let classifier = ComparedClassifier::load(config, &trained, &compute, quiet)?;
    let images = EvaluationSet::open(Path::new(&config.images), &classifier.preprocessing)?;
    let randomised = if needs_randomised(&specs) { classifier.randomised(&compute, quiet)? } else { Vec::new() };
    let shared = Shared { config, classifier: &classifier, randomised: &randomised, compute: &compute, quiet };
    let explainers = shared.open(&trained)?;

    let count = config.limit.unwrap_or(usize::MAX).min(images.any().len());
    let common = Fingerprint {
        program: PROGRAM.into(),
        explainer: String::new(),
        classifier: identity(&classifier),
        images: images.any().digest(),
        metrics: specs.iter().map(|spec| spec.name.clone()).collect(),
        annotations: fingerprints(config)?,
    };
    let evaluator = Evaluator {
        metrics: &metrics,
        masked: &MaskedConfidence { percents: Vec::new() },
        images: &images,
        objects: &objects,
        compute: &compute,
        batch_size: NonZeroUsize::new(config.batch_size).unwrap_or(NonZeroUsize::MIN),
    };
    let (mut journals, mut fresh) = (Vec::new(), 0);
    let mut tally = BrokenImages::new(count, config.max_broken);
    for (explainer, files) in explainers.iter().zip(&folders.files) {
        let fingerprint = Fingerprint { explainer: explainer.identity.clone(), ..common.clone() };
        let (mut journal, given_up) = Journal::open(&files.journal, fingerprint)?;
        if let Some(why) = given_up {
            line(&format!("note: {} is measured again: {why}", explainer.name));
            remove(&files.pictures)?;
        }
        let wanted = sample(images.any().len(), explainer.images.unwrap_or(count).min(count));
        let progress = measure(&evaluator, explainer, &mut journal, &wanted, &mut tally, quiet, interrupter)?;
        fresh += progress.fresh;
        let results = journal.results(&wanted);
        if progress.stopped || interrupter.should_stop() {
            return Ok(Outcome::Stopped {
                at: format!("{}: {} of {} images", explainer.name, results.rows.len(), wanted.len()),
            });
        }
        if let (true, Some(broken)) = (results.rows.is_empty(), tally.files().next()) {
            return Err(CompareError::Unreadable { images: wanted.len(), first: broken.reason.clone() });
        }
        results.write_csv(&files.values)?;
        journals.push((journal, wanted));
    }
    objects.warnings().iter().for_each(|warning| line(&format!("warning: {warning}")));

    let named = |name: &str| explainers.iter().position(|one| one.name == name);
    let reference = named(&config.reference()).unwrap_or(0);
    let names = names(&classifier, &images);
    let painter = Painter { names: &names, images: &images, compute: &compute, quiet, interrupter };
    let Some(gallery) = gallery(config, &specs, &painter, &explainers, &journals, reference, &folders)? else {
        return Ok(Outcome::Stopped { at: "the gallery".into() });
    };
    let measurements = explainers.iter().zip(&journals).map(|(explainer, (journal, wanted))| Measurements {
        name: explainer.name.clone(),
        what: explainer.what.clone(),
        identity: explainer.identity.clone(),
        results: journal.results(wanted),
        cost: journal.cost(),
        curves: journal.curves(wanted),
    });
    let setting = Setting {
        program: PROGRAM.into(),
        command: command.into(),
        images: config.images.clone(),
        count,
        images_sha256: common.images,
        classifier: classifier.record.name.clone(),
        weights: classifier.record.weights.clone(),
        weights_sha256: classifier.record.sha256.clone(),
        side: classifier.preprocessing.crop,
        seed: config.seed,
        batch_size: config.batch_size,
        device: compute.name.clone(),
        threads: compute.threads,
    };
    let broken = tally.files().map(Into::into).collect();
    let report = Report::new(setting, specs, measurements.collect(), reference, broken, gallery)?;
    write(&report, config.output_dir())?;
    Ok(Outcome::Finished { report: Box::new(report), fresh })
}

/// Names of the classes: the classifier's; otherwise those of the quickstart's scenes or of ImageNet if the number fits.
fn names(classifier: &ComparedClassifier, images: &EvaluationSet) -> ClassNames {
    let count = classifier.backbone.spec().classes;
    let scenes = match images {
        EvaluationSet::Scenes(set) => Some(set.classes().to_vec()).filter(|names| names.len() == count),
        EvaluationSet::Files(_) | EvaluationSet::Shards(_) => None,
    };
    ClassNames::new(classifier.names.clone().or(scenes).as_deref(), count)
}

/// Writes `report.json`, `report.md` and `report.html`.
fn write(report: &Report, output: &Path) -> Result<(), CompareError> {
    write_atomic(&output.join("report.json"), |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })?;
    write_atomic(&output.join("report.md"), |out| out.write_all(report.markdown().as_bytes()))?;
    write_atomic(&output.join("report.html"), |out| out.write_all(report.html().as_bytes()))?;
    Ok(())
}

/// The gallery of the configuration; `None` if it was interrupted.
fn gallery(
    config: &CompareConfig,
    specs: &[MetricSpec],
    painter: &Painter<'_>,
    explainers: &[ComparedExplainer],
    journals: &[(Journal, BTreeSet<usize>)],
    reference: usize,
    folders: &Folders,
) -> Result<Option<Gallery>, CompareError> {
    let wanted = config.gallery.metric.as_deref().and_then(|name| Some(metric(name).ok()?.spec().name));
    let place = specs.iter().position(|spec| Some(&spec.name) == wanted.as_ref()).unwrap_or(0);
    let measured: Vec<_> = journals.iter().map(|(journal, wanted)| journal.measured(wanted)).collect();
    let (Some(spec), Some(theirs)) = (specs.get(place), measured.get(reference)) else {
        return Ok(Some(Gallery::default()));
    };
    let worst = worst(theirs, place, spec, config.gallery.images);
    let pictures: Vec<PathBuf> = folders.files.iter().map(|files| files.pictures.clone()).collect();
    painter.paint(&worst, explainers, &measured, (place, &spec.name), &pictures)
}

/// The files of each explainer.
struct Folders {
    files: Vec<Files>,
}

struct Files {
    journal: PathBuf,
    values: PathBuf,
    pictures: PathBuf,
}

impl Folders {
    /// Makes the output folder and checks that it is writable, before anything is measured.
    fn new(config: &CompareConfig) -> Result<Self, CompareError> {
        let (output, results) = (config.output_dir(), config.output_dir().join("results"));
        let failed = |source| CompareError::Output { path: output.into(), source };
        fs::create_dir_all(&results).map_err(failed)?;
        drop(tempfile::tempfile_in(output).map_err(failed)?);
        let mut names = FileNames::default();
        let files = config.explainers.iter().map(|explainer| {
            let name = names.claim(slug(&explainer.name()));
            Files {
                journal: results.join(format!("{name}.jsonl")),
                values: results.join(format!("{name}.csv")),
                pictures: output.join("gallery").join(name),
            }
        });
        Ok(Self { files: files.collect() })
    }
}

/// Removes a folder of pictures if it exists.
fn remove(folder: &Path) -> Result<(), CompareError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CompareError::Output { path: folder.into(), source })
        }
        _ => Ok(()),
    }
}

fn annotations(config: &CompareConfig) -> Result<Objects, CompareError> {
    let mut objects = Objects::default();
    for file in [&config.objects, &config.fixations].into_iter().flatten() {
        objects = objects.with(Objects::open(file)?);
    }
    Ok(objects)
}

/// The SHA-256 of each annotation file; the path of a folder.
fn fingerprints(config: &CompareConfig) -> Result<Vec<String>, CompareError> {
    let files = [&config.objects, &config.fixations].into_iter().flatten();
    let one = |file: &PathBuf| match file.is_file() {
        true => sha256_file(file)
            .map_err(|error| CompareError::Output { path: file.clone(), source: std::io::Error::other(error) }),
        false => Ok(file.display().to_string()),
    };
    files.map(one).collect()
}

/// A hash that identifies a classifier and its preprocessing.
fn identity(classifier: &ComparedClassifier) -> String {
    let record = &classifier.record;
    let weights = record.sha256.as_ref().unwrap_or(&record.weights);
    let preprocessing = serde_json::to_string(&classifier.preprocessing).unwrap_or_default();
    sha256(format!("{} {weights} {preprocessing}", record.name).as_bytes())
}
