//! Pre-training of BEE: a pass over a stream of images, from each of which every metric's bandit learns once.

mod log;
mod setup;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use burn::train::Interrupter;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{BanditUpdate, BeeSection, Mixtures, RewardMetric};
use serde_json::json;

use super::FitError;
use super::checkpoint::{self, RunIdentity, State, Store};
use super::log::MetricsLog;
use super::output::{OutputFolder, ResumeFrom};
use super::setup::{training, validation, validation_images};
use crate::config::Config;
use crate::data::{Batch, BrokenImage, Loader};
use crate::distributed::ProcessGroup;
use explainer_metrics::MetricInput;
use log::{Meter, figures};
use setup::Setup;

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
    pub broken: Vec<BrokenImage>,
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
    pub metric: RewardMetric,
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
    section: &BeeSection,
    from: &ResumeFrom,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Finished, FitError> {
    let compute = Compute::new(&config.device, config.threads)?.in_precision(config.precision.into())?;
    let output = OutputFolder::create(config.output_dir(), config.train.keep)?;
    let setup = Setup::new(config, section, &compute, quiet)?;
    let plan = training(config, config.train.batch_size, config.train.epochs);
    let steps_per_epoch = plan.batches_per_epoch(setup.train.len());
    let (batch_size, total_steps) = (plan.batch_size, steps_per_epoch * plan.epochs);
    let identity = RunIdentity::new(config, setup.weights.clone(), setup.train.len(), setup.train.digest());
    let mut notes = Vec::new();
    let found = output.resume(from, &mut notes, |path| {
        let (state, [bytes]) = checkpoint::load_files(path, &identity, [MIXTURES])?;
        let origin = path.join(MIXTURES);
        let damaged = |e: explainer_zoo::explainer::bee::BeeError| checkpoint::CheckpointError::Damaged {
            path: origin.clone(),
            reason: e.to_string(),
        };
        Ok((state, Mixtures::from_bytes(&bytes, &origin.display().to_string()).map_err(damaged)?))
    })?;
    let (state, mixtures) = match found {
        Some((_, found)) => found,
        None => (State::start(identity, total_steps), setup.prior(section, config.train.seed)),
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
        log: MetricsLog::open(&output.path, &ProcessGroup::single())?,
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
            run.save(&output.store)?;
        }
    }
    let waited = loader.waited();
    if !stopped() {
        run.finish(broken.first())?;
    }
    if run.state.step > 0 {
        run.save(&output.store)?;
    }
    let mut measured = Vec::new();
    let mut artifact = None;
    if run.state.validation_due && !stopped() {
        let images = validation_images(config, &setup.valid);
        if let Some(found) = setup.measure(&run.mixtures, images, validation(config), &stopped)? {
            run.log.write(&figures(run.state.step, &found))?;
            run.state.validation_due = false;
            artifact = Some(setup.export(config, section, &run.state, &run.mixtures, &found, &output.path)?);
            measured = found;
        }
    }
    run.progress.finish();
    let Run { state, mixtures, .. } = run;
    Ok(Finished { artifact, state, mixtures, measured, broken, waited, notes, batch_size })
}

/// A run on its way.
struct Run<'a> {
    setup: &'a Setup,
    state: State,
    mixtures: Mixtures,
    batch_size: usize,
    steps_per_epoch: usize,
    log: MetricsLog,
    /// Steps between two lines of the log.
    every: usize,
    progress: Meter,
    started: Instant,
    seconds_before: f64,
    /// Lessons since the last line: how many, the sum of their scores, how many were rewarded.
    tally: BTreeMap<RewardMetric, (usize, f64, usize)>,
    images: usize,
    since: Instant,
}

impl Run<'_> {
    /// Learns from one batch.
    fn step(&mut self, batch: &Batch) -> Result<(), FitError> {
        for broken in &batch.broken {
            self.log.write(&json!({"step": batch.step, "broken": broken.name, "reason": broken.reason}))?;
        }
        let setup = self.setup;
        let seen = setup.clean_pass(batch);
        let subject = setup.subject(&seen)?;
        let first = (batch.step * self.batch_size) as u64;
        let score = |metric: RewardMetric, maps: &Tensor<4>| -> Result<_, FitError> {
            Ok(setup.scores.measure(metric, &MetricInput::new(&subject, maps.clone())?)?)
        };
        let lessons = setup.bee.learn(&mut self.mixtures, &seen, first, score);
        // A failed classifier returns NaN, which causes later errors: report its failure first.
        setup.check_failures()?;
        for BanditUpdate { metric, score, reward, .. } in lessons? {
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
        self.log.write(&json!({
            "step": self.state.step, "epoch": epoch + 1, "scores": scores, "rewarded": rewards,
            "images_per_second": rate,
        }))?;
        let text: Vec<String> = scores.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
        self.progress.say(self.state.step, self.state.total_steps, &text.join("  "), rate);
        (self.images, self.since) = (0, Instant::now());
        Ok(())
    }

    /// The end of the last epoch, also where no image behind the last batch could be read.
    fn finish(&mut self, broken: Option<&BrokenImage>) -> Result<(), FitError> {
        let state = &mut self.state;
        let missing = state.total_steps.saturating_sub(state.step);
        state.skipped += missing;
        state.step += missing;
        state.validation_due = true;
        if state.skipped == state.total_steps {
            return Err(FitError::NothingRead(broken.map(|broken| broken.reason.clone()).unwrap_or_default()));
        }
        if missing > 0 {
            self.log.write(&json!({"step": self.state.step, "epoch": self.epoch(), "skipped": missing}))?;
        }
        Ok(())
    }

    fn epoch(&self) -> usize {
        self.state.step.saturating_sub(1) / self.steps_per_epoch.max(1) + 1
    }

    fn save(&self, store: &Store) -> Result<(), FitError> {
        let bytes = self.mixtures.to_bytes()?;
        self.log.sync()?;
        store.save_files(self.state.clone(), &[(MIXTURES, &bytes)])?;
        Ok(())
    }
}
