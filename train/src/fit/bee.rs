//! Pre-training of BEE: a pass over a stream of images, from each of which every metric's bandit learns once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use explainer_zoo::artifact::BackboneRecord;
use explainer_zoo::artifact::bee::{BeeArtifact, BeeConfig};
use explainer_zoo::attribution::path::{POINTS_PER_CALL, PathIntegral, Site};
use explainer_zoo::backbone::{self, Backbone, BackboneError};
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{
    Bee, Encoder, Family, Lesson, Metric, MixtureConfig, Mixtures, Pick, Seen, Stream,
};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::source::Progress;
use indicatif::ProgressBar;
use serde_json::json;

use super::FitError;
use super::checkpoint::{self, State, Store};
use super::classifier::{class_names, preprocessing};
use super::run::{ResumeFrom, identified, sets, start, training, validated, validation};
use crate::config::{self, Config};
use crate::data::{Batch, Broken, ImageSet, Loader, Plan, Subset};
use crate::metric::{BeeScores, Case, MetricError, Subject};
use crate::report::progress::{bar, with_download_bar};

/// The file of a checkpoint that holds what was learned.
pub const MIXTURES: &str = "mixtures.safetensors";

/// What a run leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// The artifact's folder, if the run came to its end.
    pub artifact: Option<PathBuf>,
    /// Where the run stands.
    pub state: State,
    /// What was learned.
    pub mixtures: Mixtures,
    /// Each metric's mean scores on the validation images; empty if the run did not come to its end.
    pub measured: Vec<Measured>,
    /// Images that could not be read.
    pub broken: Vec<Broken>,
    /// Time spent waiting for images.
    pub waited: Duration,
    /// Messages for the user: checkpoints passed over, and where the run started.
    pub notes: Vec<String>,
    /// Images in a training batch.
    pub batch_size: usize,
}

/// What one draw an image scores, on the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The metric.
    pub metric: Metric,
    /// With baselines drawn from the learned mixture.
    pub learned: f64,
    /// With baselines of families that are all equally likely.
    pub uniform: f64,
    /// On how many images both are defined.
    pub images: usize,
}

/// Pre-trains BEE as `config` and its `section` say. `interrupter` stops the run after a step, with a checkpoint.
///
/// # Errors
/// [`FitError`]; checkpoints and the log up to then are in the output folder.
pub fn run(
    config: &Config,
    section: &config::Bee,
    from: &ResumeFrom,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Finished, FitError> {
    let compute = Compute::new(&config.device, config.threads)?;
    let output = config.output_dir().to_path_buf();
    let writable = |source| FitError::Output { path: output.clone(), source };
    fs::create_dir_all(&output).map_err(writable)?;
    drop(tempfile::tempfile_in(&output).map_err(writable)?); // better refused now than after the first epoch

    let setup = Setup::new(config, section, &compute, quiet)?;
    let plan = training(config);
    let steps_per_epoch = plan.batches_per_epoch(setup.train.len());
    let (batch_size, total_steps) = (plan.batch_size, steps_per_epoch * plan.epochs);
    let run_id = identified(config, &setup.weights, setup.train.as_ref());
    let store = Store::new(output.join("checkpoints"), config.train.keep);
    store.restore()?;
    let mut notes = Vec::new();
    let found = start(from, &store, &output, &mut notes, |path| {
        let (state, [bytes]) = checkpoint::load_files(path, &run_id, [MIXTURES])?;
        let origin = path.join(MIXTURES);
        let damaged = |e: explainer_zoo::explainer::bee::BeeError| checkpoint::CheckpointError::Damaged {
            path: origin.clone(),
            reason: e.to_string(),
        };
        Ok((state, Mixtures::from_bytes(&bytes, &origin.display().to_string()).map_err(damaged)?))
    })?;
    store.sweep(); // the folder is this run's
    let (state, mixtures) = match found {
        Some((_, found)) => found,
        None => (State::start(run_id, total_steps), setup.prior(section, config.train.seed)),
    };

    let first = state.step;
    let mut loader = Loader::new(setup.train.clone(), plan, first)?;
    let mut run = Run {
        setup: &setup,
        seconds_before: state.seconds,
        state,
        mixtures,
        batch_size,
        steps_per_epoch,
        log: Log::open(output.join("metrics.jsonl"))?,
        every: config.train.log_every,
        progress: Meter::new(total_steps * batch_size, first * batch_size, quiet),
        started: Instant::now(),
        tally: BTreeMap::new(),
        images: 0,
        since: Instant::now(),
    };
    let stopped = || interrupter.should_stop();
    let mut broken = Vec::new();
    while !stopped()
        && let Some(batch) = loader.next()
    {
        let batch = batch?;
        broken.extend(batch.broken.iter().cloned());
        let before = run.state.step;
        run.step(&batch)?;
        if run.state.step / config.train.checkpoint_every > before / config.train.checkpoint_every {
            run.save(&store)?;
        }
    }
    let waited = loader.waited();
    if !stopped() {
        run.finish(broken.first())?;
    }
    if run.state.step > 0 {
        run.save(&store)?;
    }
    let mut measured = Vec::new();
    let mut artifact = None;
    if run.state.validation_due && !stopped() {
        let images = validated(config, &setup.valid);
        if let Some(figures) = setup.measure(&run.mixtures, images, validation(config), &stopped)? {
            run.log.figures(run.state.step, &figures)?;
            run.state.validation_due = false;
            artifact = Some(setup.export(config, section, &run.state, &run.mixtures, &figures, &output)?);
            measured = figures;
        }
    }
    run.progress.finish();
    let Run { state, mixtures, .. } = run;
    Ok(Finished { artifact, state, mixtures, measured, broken, waited, notes, batch_size })
}

/// Everything a run is made of, loaded and checked.
struct Setup {
    bee: Bee,
    preprocessing: Preprocessing,
    scores: BeeScores,
    metrics: Vec<Metric>,
    sites: Vec<String>,
    class_names: Option<Vec<String>>,
    context: Option<BackboneRecord>,
    /// SHA-256 of the classifiers' weights.
    weights: String,
    /// Training images for baselines, `[M,3,H,W]` in 0..1.
    references: Tensor<4>,
    seed: u64,
    device: Device,
    train: Arc<dyn ImageSet>,
    valid: Arc<dyn ImageSet>,
}

impl Setup {
    fn new(config: &Config, section: &config::Bee, compute: &Compute, quiet: bool) -> Result<Self, FitError> {
        let load = |name: &str, weights: &str, sha256: Option<&str>| -> Result<Arc<dyn Backbone>, BackboneError> {
            let load = |progress: &mut Progress<'_>| backbone::load(name, weights, sha256, compute, progress);
            Ok(Arc::new(with_download_bar(quiet, load)?))
        };
        let wanted = &config.backbone;
        let backbone = load(&wanted.name, &wanted.weights, wanted.sha256.as_deref())?;
        let spec = backbone.spec();
        let preprocessing = preprocessing(&config.data, backbone.as_ref())?;
        let class_names = class_names(wanted, spec.classes)?;
        let own = || vec![spec.default_taps.last().map_or(Site::IMAGE, String::as_str).to_owned()];
        let names = section.sites.clone().unwrap_or_else(own);
        let site = |name: &String| Site::named(backbone.as_ref(), name, preprocessing.crop);
        let sites = names.iter().map(site).collect::<Result<Vec<_>, _>>()?;
        let mut weights = spec.weights_sha256.clone().unwrap_or_default();
        let (encoder, context) = match &section.context {
            None => (backbone.clone(), None),
            Some(context) => {
                let other = load(&context.name, &context.weights, context.sha256.as_deref())?;
                weights.extend(other.spec().weights_sha256.clone());
                let record = BackboneRecord::new(other.spec(), &context.weights);
                (other, Some(record))
            }
        };
        let encoder = Encoder::new(encoder, preprocessing.crop)?;
        let metrics = section.metrics();
        let scores = BeeScores::new(&metrics, section.curve_steps)?;
        let [train, valid] = sets(config, &preprocessing)?;
        let named = || Some(train.classes().to_vec()).filter(|names| names.len() == spec.classes);
        let class_names = class_names.or_else(named);
        let seed = config.train.seed;
        let references = references(&train, section.references, seed, validation(config), &compute.device)?;
        let integral = PathIntegral { steps: section.steps, rectify: true, points_per_call: POINTS_PER_CALL };
        let normalised = preprocessing.normalise(references.clone());
        let bee = Bee::new(backbone.clone(), sites, &normalised, encoder, integral, seed)?;
        Ok(Self {
            bee,
            preprocessing,
            scores,
            metrics,
            sites: names,
            class_names,
            context,
            weights,
            references,
            seed,
            device: compute.device.clone(),
            train,
            valid,
        })
    }

    fn prior(&self, section: &config::Bee, seed: u64) -> Mixtures {
        let shape = MixtureConfig {
            dimensions: section.dimensions,
            features: self.bee.encoder().features(),
            theta_precision: section.theta_precision,
            history: section.history,
        };
        Mixtures::prior(&self.metrics, &shape, seed)
    }

    fn see(&self, batch: &Batch) -> Seen {
        self.bee.see(self.preprocessing.normalise(batch.images(&self.device)), None)
    }

    fn subject<'a>(&'a self, seen: &Seen) -> Result<Subject<'a>, MetricError> {
        let (images, logits, classes) = (seen.images.clone(), seen.logits.clone(), seen.classes.clone());
        Subject::new(self.bee.backbone().as_ref(), &self.preprocessing, images, logits, classes)
    }

    /// What one draw from each mixture scores on images it has not learned from, beside one draw from families that are
    /// all equally likely; none where the run is stopped meanwhile.
    fn measure(
        &self,
        mixtures: &Mixtures,
        images: Arc<dyn ImageSet>,
        plan: Plan,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Measured>>, FitError> {
        let mut sums: BTreeMap<Metric, (f64, f64, usize)> = BTreeMap::new();
        let mut number = 0;
        for batch in Loader::new(images, plan, 0)? {
            if stopped() {
                return Ok(None);
            }
            let seen = self.see(&batch?);
            let subject = self.subject(&seen)?;
            for image in 0..seen.features.len() {
                let (learned, uniform) = self.choices(mixtures, &seen, image, number)?;
                let mut families: Vec<Family> = learned.iter().map(|(_, family)| *family).chain([uniform]).collect();
                families.sort_unstable();
                families.dedup();
                let pick = |family: &Family| Pick { image, family: *family, purpose: "validate", number };
                let picks: Vec<Pick<'_>> = families.iter().map(pick).collect();
                let maps = self.bee.maps(&seen, &picks);
                let of = |family: Family| families.partition_point(|other| *other < family);
                for (metric, family) in learned {
                    let pair = [family, uniform].map(|family| maps.clone().narrow(0, of(family), 1));
                    let case = Case::of(&subject, Tensor::cat(pair.to_vec(), 0), vec![image; 2])?;
                    if let [Some(own), Some(other)] = self.scores.score(metric, &case)?[..] {
                        let sum = sums.entry(metric).or_default();
                        *sum = (sum.0 + own, sum.1 + other, sum.2 + 1);
                    }
                }
                number += 1;
            }
        }
        let mean = |(metric, (own, other, images)): (Metric, (f64, f64, usize))| {
            let count = images as f64;
            Measured { metric, learned: own / count, uniform: other / count, images }
        };
        Ok(Some(sums.into_iter().map(mean).collect()))
    }

    /// The family that each mixture draws for an image, and one that every family has the same chance to be.
    fn choices(
        &self,
        mixtures: &Mixtures,
        seen: &Seen,
        image: usize,
        number: u64,
    ) -> Result<(Vec<(Metric, Family)>, Family), FitError> {
        let features = seen.features.get(image).map_or(&[][..], Vec::as_slice);
        let mut learned = Vec::new();
        for mixture in mixtures.iter() {
            let metric = mixture.metric();
            let stream = &mut Stream::new(self.seed, "bee choice, validate", &[metric as u64, number]);
            learned.push((metric, mixture.choose(features, stream)?));
        }
        let drawn = Stream::new(self.seed, "bee uniform, validate", &[number]).below(Family::COUNT);
        Ok((learned, Family::ALL.get(drawn).copied().unwrap_or(Family::Normal)))
    }

    fn export(
        &self,
        config: &Config,
        section: &config::Bee,
        state: &State,
        mixtures: &Mixtures,
        measured: &[Measured],
        output: &Path,
    ) -> Result<PathBuf, FitError> {
        let spec = self.bee.backbone().spec();
        let mut about = BeeConfig::new(spec, &config.backbone.weights, self.sites.clone(), mixtures.metrics());
        about.class_names.clone_from(&self.class_names);
        about.context.clone_from(&self.context);
        (about.steps, about.draws, about.curve_steps) = (section.steps, section.draws, section.curve_steps);
        (about.seed, about.preprocessing) = (self.seed, self.preprocessing.clone());
        about.figures.insert("training steps".into(), state.steps_made() as f64);
        about.figures.insert("training seconds".into(), state.seconds.round());
        about.figures.insert("training images".into(), self.train.len() as f64);
        for Measured { metric, learned, uniform, images } in measured {
            about.figures.insert(format!("{metric}, learned mixture"), *learned);
            about.figures.insert(format!("{metric}, uniform mixture"), *uniform);
            about.figures.insert(format!("{metric}, validation images"), *images as f64);
        }
        let folder = output.join("artifact");
        let artifact = BeeArtifact { config: about, mixtures: mixtures.clone(), references: self.references.clone() };
        artifact.save(&folder, &config.to_yaml().unwrap_or_default())?;
        Ok(folder)
    }
}

/// The first `count` readable training images after a seeded shuffle, cropped at the centre: `[M,3,H,W]` in 0..1.
fn references(
    train: &Arc<dyn ImageSet>,
    count: usize,
    seed: u64,
    plan: Plan,
    device: &Device,
) -> Result<Tensor<4>, FitError> {
    let some: Arc<dyn ImageSet> = Arc::new(Subset::sample(train.clone(), count, seed));
    let plan = Plan { batch_size: some.len().max(1), max_broken: 1.0, ..plan };
    let mut loader = Loader::new(some, plan, 0)?;
    match loader.next() {
        Some(batch) => Ok(batch?.images(device)),
        None => {
            let first = loader.tally().files().next().map(|broken| broken.reason.clone());
            Err(FitError::NothingRead(first.unwrap_or_default()))
        }
    }
}

/// A run on its way.
struct Run<'a> {
    setup: &'a Setup,
    state: State,
    mixtures: Mixtures,
    batch_size: usize,
    steps_per_epoch: usize,
    log: Log,
    /// Steps between two lines of the log.
    every: usize,
    progress: Meter,
    started: Instant,
    seconds_before: f64,
    /// Lessons since the last line: how many, the sum of their scores, how many were rewarded.
    tally: BTreeMap<Metric, (usize, f64, usize)>,
    images: usize,
    since: Instant,
}

impl Run<'_> {
    /// Learns from one batch.
    fn step(&mut self, batch: &Batch) -> Result<(), FitError> {
        for broken in &batch.broken {
            self.log.line(&json!({"step": batch.step, "broken": broken.name, "reason": broken.reason}))?;
        }
        let setup = self.setup;
        let seen = setup.see(batch);
        let subject = setup.subject(&seen)?;
        let first = (batch.step * self.batch_size) as u64;
        let score = |metric: Metric, maps: &Tensor<4>| -> Result<_, FitError> {
            Ok(setup.scores.score(metric, &Case::new(&subject, maps.clone())?)?)
        };
        let lessons = setup.bee.learn(&mut self.mixtures, &seen, first, score)?;
        for Lesson { metric, score, reward, .. } in lessons {
            let sum = self.tally.entry(metric).or_default();
            *sum = (sum.0 + 1, sum.1 + score, sum.2 + usize::from(reward));
        }
        let before = self.state.step;
        self.state.skipped += batch.step - before;
        self.state.step = batch.step + 1;
        self.state.validation_due = self.state.step == self.state.total_steps;
        self.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        self.images += batch.len();
        let due = self.state.step / self.every > before / self.every || self.state.validation_due;
        if due {
            self.report(batch.epoch)?;
        }
        self.progress.advance(self.state.step * self.batch_size);
        Ok(())
    }

    /// A line of the log, and on the screen where there is no bar.
    fn report(&mut self, epoch: usize) -> Result<(), FitError> {
        let rate = self.images as f64 / self.since.elapsed().as_secs_f64().max(1e-9);
        let tally = std::mem::take(&mut self.tally);
        let mean = |of: fn(&(usize, f64, usize)) -> f64| -> BTreeMap<&str, f64> {
            tally.iter().map(|(metric, sum)| (metric.name(), of(sum) / sum.0.max(1) as f64)).collect()
        };
        let (scores, rewards) = (mean(|sum| sum.1), mean(|sum| sum.2 as f64));
        self.log.line(&json!({
            "step": self.state.step, "epoch": epoch + 1, "scores": scores, "rewarded": rewards,
            "images_per_second": rate,
        }))?;
        let text: Vec<String> = scores.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
        self.progress.say(self.state.step, self.state.total_steps, &text.join("  "), rate);
        (self.images, self.since) = (0, Instant::now());
        Ok(())
    }

    /// The end of the last epoch, also where no image behind the last batch could be read.
    fn finish(&mut self, broken: Option<&Broken>) -> Result<(), FitError> {
        let state = &mut self.state;
        let missing = state.total_steps.saturating_sub(state.step);
        state.skipped += missing;
        state.step += missing;
        state.validation_due = true;
        if state.skipped == state.total_steps {
            return Err(FitError::NothingRead(broken.map(|broken| broken.reason.clone()).unwrap_or_default()));
        }
        if missing > 0 {
            self.log.line(&json!({"step": self.state.step, "epoch": self.epoch(), "skipped": missing}))?;
        }
        Ok(())
    }

    fn epoch(&self) -> usize {
        self.state.step.saturating_sub(1) / self.steps_per_epoch.max(1) + 1
    }

    fn save(&self, store: &Store) -> Result<(), FitError> {
        let bytes = self.mixtures.to_bytes()?;
        store.save_files(self.state.clone(), &[(MIXTURES, &bytes)])?;
        Ok(())
    }
}

/// `metrics.jsonl`.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self, FitError> {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| FitError::Output { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    /// One line, whole, in the file before anything else happens.
    fn line(&mut self, line: &serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes()).map_err(|source| FitError::Output { path: self.path.clone(), source })
    }

    fn figures(&mut self, step: usize, measured: &[Measured]) -> Result<(), FitError> {
        let of =
            |m: &Measured| (m.metric.name(), json!({"learned": m.learned, "uniform": m.uniform, "images": m.images}));
        let figures: BTreeMap<&str, serde_json::Value> = measured.iter().map(of).collect();
        self.line(&json!({"step": step, "validation": figures}))
    }
}

/// How a run shows itself: a bar on a terminal, lines elsewhere.
struct Meter {
    bar: ProgressBar,
    plain: bool,
}

impl Meter {
    fn new(images: usize, done: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{bar:24} {pos}/{len} images  {eta:>4} left  {wide_msg}");
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, plain: !quiet && !stderr().is_terminal() }
    }

    fn advance(&self, images: usize) {
        self.bar.set_position(images as u64);
    }

    fn say(&self, step: usize, steps: usize, text: &str, rate: f64) {
        self.bar.set_message(text.to_owned());
        if self.plain {
            // Nobody is left to tell if this fails.
            let _ = writeln!(stderr(), "step {step}/{steps}  {text}  {rate:.1} images/s");
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
