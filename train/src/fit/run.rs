//! A run from its configuration to an artifact.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Tensor};
use burn::train::Interrupter;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::explainer::{AnyHead, ExplainerHead};
use explainer_zoo::feature_extractor::{FeatureExtractor, Features};

use super::FitError;
use super::batches::{DistinctBrokenImages, TrainingBatches};
use super::checkpoint::{self, Checkpoint, State};
use super::learner::{Learner, TrainedHead, not_encoded};
use super::log::MetricsLog;
use super::output::{OutputFolder, ResumeFrom};
use super::pending::PendingMetrics;
use super::phase::Phase;
use super::progress::{ConsoleRenderer, TrainingProgress};
use super::setup::{Components, validation, validation_images};
use super::training_loop::{Clock, TrainingLoop};
use super::validation::{ValidationSet, predicted_maps};
use crate::config::Config;
use crate::data::{BrokenImage, ImageSet, LoaderOptions};
use crate::distributed::ProcessGroup;

/// What a run leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// The artifact's folder, if the run came to its end.
    pub artifact: Option<PathBuf>,
    /// Where the run stands.
    pub state: State,
    /// Images that could not be read.
    pub broken: Vec<BrokenImage>,
    /// Time spent waiting for images.
    pub waited: Duration,
    /// Messages for the user: checkpoints that were skipped, and where the run started.
    pub notes: Vec<String>,
    /// The trained head: the best one, on rank 0.
    pub head: AnyHead,
    /// The frozen classifiers that it explains.
    pub extractor: FeatureExtractor,
    /// Where tensors live, without autodiff.
    pub device: Device,
    /// The validation images.
    pub valid: Arc<dyn ImageSet>,
    /// Images in a validation batch.
    pub batch_size: usize,
    /// Images that the head has learned from, counted each time.
    pub images: usize,
    /// Names of the classifier's classes, where known.
    pub class_names: Option<Vec<String>>,
}

impl Finished {
    /// The clean pass of pixels `[B,3,H,W]` in 0..=1 and the head's maps `[B,1,h,w]` of each image's predicted class.
    pub fn explain(&self, pixels: Tensor<4>) -> (Features, Tensor<4>) {
        let features = self.extractor.extract(pixels);
        let maps = predicted_maps(&self.head, &features);
        (features, maps)
    }
}

/// Trains as `config` says, in one process. `interrupter` stops the run after a step, with a checkpoint.
///
/// # Errors
/// [`FitError`]; checkpoints and the log up to then are in the output folder.
pub fn run(config: &Config, from: &ResumeFrom, quiet: bool, interrupter: &Interrupter) -> Result<Finished, FitError> {
    run_in_group(config, from, quiet, interrupter, &ProcessGroup::single())
}

/// As [`run`], as one rank of `group`. All ranks call it with the same configuration. Each reads its share of every batch;
/// rank 0 writes.
///
/// # Errors
/// As [`run`]. [`ProcessGroup::failed_together`] tells whether all ranks know the error.
pub fn run_in_group(
    config: &Config,
    from: &ResumeFrom,
    quiet: bool,
    interrupter: &Interrupter,
    group: &Arc<ProcessGroup>,
) -> Result<Finished, FitError> {
    let quiet = quiet || !group.is_main();
    let (path, keep) = (config.output_dir(), config.train.keep);
    let output = check_group(config, group).and_then(|()| match group.is_main() {
        true => OutputFolder::create(path, keep),
        false => Ok(OutputFolder::unlocked(path, keep)),
    });
    let output = group.all_ok(output)?;
    let components = Components::load(config, quiet, group)?;
    let phases = Phase::all(config, group, components.train.len());
    let total_steps = phases.last().map_or(0, Phase::end);
    let mut notes = Vec::new();
    let found = match group.is_main() {
        true => output.resume(from, &mut notes, |path| checkpoint::load(path, &components.identity)),
        false => Ok(None),
    };
    let found = broadcast_checkpoint(group.all_ok(found)?.map(|(_, found)| found), group)?;

    let mut run = TrainingRun::new(config, &components, &output, total_steps);
    let (mut head, mut optimizer) = (None, None);
    if let Some(found) = found {
        run.saved = output.store.holds(&found).then_some((found.state.step, found.state.validation_due));
        run.state = found.state;
        (head, optimizer) = (Some(found.head), Some(found.optimizer));
    }
    let mut trained = None;
    for (number, phase) in phases.iter().enumerate() {
        let done = run.state.step >= phase.end() && phase.steps > 0;
        if done && number + 1 < phases.len() {
            continue;
        }
        let mut steps = run.begin(phase, head.take(), optimizer.take(), quiet, interrupter)?;
        steps.run()?;
        let last = run.end(steps)?;
        head = Some(last.clone().into_record());
        trained = Some((last, phase));
        if run.state.step < phase.end() {
            break; // stopped
        }
    }
    let Some((last, phase)) = trained else { return Err(FitError::Stopped("it has no phase".into())) };
    let head = run.best_head(last, &mut notes);
    let TrainingRun { state, broken, waited, .. } = run;
    let made = |phase: &Phase| state.step.clamp(phase.first, phase.end()) - phase.first;
    let images: usize = phases.iter().map(|phase| made(phase) * phase.plan.batch_size).sum();
    let done = state.step >= total_steps && !state.validation_due;
    if let Some(cache) = &components.context.cache {
        if let Some(failure) = cache.failure() {
            notes.push(format!("data.cache: clean passes could not be kept, they were repeated: {failure}"));
        }
        if done {
            cache.remove(); // before the artifact, which needs room too
        }
    }
    let artifact = match done && group.is_main() {
        true => export(config, &components, &head, &state, &output).map(Some),
        false => Ok(None),
    };
    Ok(Finished {
        artifact: group.all_ok(artifact)?,
        broken,
        waited,
        notes,
        head,
        extractor: components.context.extractor.clone(),
        device: components.context.device.clone(),
        valid: components.valid.clone(),
        batch_size: config.train.batch_size,
        images: images.saturating_sub(state.skipped * phase.plan.batch_size),
        class_names: components.classifier.class_names.clone(),
        state,
    })
}

/// A run on its way through its phases. Each phase has its own optimizer, and continues with the head of the last one.
struct TrainingRun<'a> {
    config: &'a Config,
    components: &'a Components,
    output: &'a OutputFolder,
    /// Where the run stands.
    state: State,
    /// Step of the last checkpoint in the output folder, and whether its validation is due. The start needs no checkpoint.
    saved: Option<(usize, bool)>,
    /// The head of the best validation, if this process has made it.
    best: Option<TrainedHead>,
    /// Images that could not be read, of all ranks.
    broken: Vec<BrokenImage>,
    /// Time spent waiting for images.
    waited: Duration,
}

impl<'a> TrainingRun<'a> {
    fn new(config: &'a Config, components: &'a Components, output: &'a OutputFolder, total_steps: usize) -> Self {
        Self {
            config,
            components,
            output,
            state: State::start(components.identity.clone(), total_steps),
            saved: Some((0, false)),
            best: None,
            broken: Vec::new(),
            waited: Duration::ZERO,
        }
    }

    /// The training loop of `phase`, from where the run stands. `head` and `optimizer` are those of a checkpoint, or the head
    /// of the last phase.
    fn begin(
        &mut self,
        phase: &'a Phase,
        head: Option<ModuleRecord>,
        optimizer: Option<OptimizerRecord>,
        quiet: bool,
        interrupter: &'a Interrupter,
    ) -> Result<TrainingLoop<'a>, FitError> {
        let (config, components) = (self.config, self.components);
        let context = &components.context;
        let group = &context.group;
        let from = self.state.step.saturating_sub(phase.first);

        let (seed, device) = (config.train.seed, context.device.clone().autodiff());
        let fresh = match config.explainer.learned() {
            Some(explainer) => explainer.head(&components.head, seed, &device),
            None => components.head.init(seed, &device),
        };
        let mut learner = Learner::new(fresh.synchronised(context.sync.as_ref()), phase)?;
        if let Some(head) = head {
            learner.load_head(head);
        }
        // A phase begins with a new optimizer: the checkpoint's is the last phase's.
        if let Some(optimizer) = optimizer.filter(|_| from > 0) {
            learner.load_optimizer(optimizer);
        }
        learner.broadcast(group)?;

        let images = [phase.steps, from].map(|steps| steps * phase.plan.batch_size);
        let renderer = ConsoleRenderer::new(images.into(), self.state.step, config.train.log_every, quiet);
        let validation = ValidationSet {
            set: validation_images(config, &components.valid),
            plan: LoaderOptions { rank: group.rank(), world_size: group.size(), ..validation(config) },
            broken: DistinctBrokenImages::default(),
        };
        Ok(TrainingLoop {
            config,
            context,
            phase,
            learner,
            batches: TrainingBatches::new(context, components.train.clone(), phase.plan.clone(), phase.first, from)?,
            validation,
            images: components.train.as_ref(),
            output: self.output,
            log: MetricsLog::open(&self.output.path, group)?,
            progress: TrainingProgress::new(phase.task.report(), Box::new(renderer)),
            interrupter,
            clock: Clock::start(self.state.seconds),
            state: self.state.clone(),
            saved: self.saved,
            best: self.best.take(),
            pending: PendingMetrics::default(),
            stopped: false,
        })
    }

    /// Takes over where the loop of a phase ends: the head that it has trained.
    fn end(&mut self, steps: TrainingLoop<'a>) -> Result<TrainedHead, FitError> {
        let TrainingLoop { learner, batches, validation, state, saved, best, context, .. } = steps;
        (self.state, self.saved, self.best) = (state, saved, best);
        self.waited += batches.waited();
        let own: Vec<BrokenImage> = batches.broken().iter().chain(validation.broken.images()).cloned().collect();
        for broken in context.group.all_gather(&own)?.concat() {
            // Another rank, or an earlier phase, may have met it too.
            if !self.broken.contains(&broken) {
                self.broken.push(broken);
            }
        }
        Ok(learner.trained())
    }

    /// The head to export: on rank 0 that of the best validation, otherwise the last one.
    fn best_head(&mut self, last: TrainedHead, notes: &mut Vec<String>) -> AnyHead {
        let best = match (self.best.take(), &self.state.best) {
            (Some(best), _) => best,
            // The best validation came before the checkpoint that this run was resumed from.
            (None, Some(best)) if self.components.context.group.is_main() => {
                match checkpoint::load(&self.output.store.path(best.step), &self.components.identity) {
                    Ok(found) => last.load_record(found.head),
                    Err(error) => {
                        notes.push(format!("the best checkpoint cannot be read, the last head is exported: {error}"));
                        self.state.best = None; // its figures are not those of the exported head
                        last
                    }
                }
            }
            _ => last,
        };
        best.head
    }
}

/// Refuses runs that several ranks cannot train, or not with equal shares.
fn check_group(config: &Config, group: &ProcessGroup) -> Result<(), FitError> {
    let (ranks, batch_size) = (group.size(), config.train.batch_size);
    let method = config.explainer.method();
    if group.is_single() {
        Ok(())
    } else if method.requirements().one_process {
        Err(FitError::OneProcess { method, ranks })
    } else if config.data.cache {
        Err(FitError::CacheShared { ranks })
    } else if !batch_size.is_multiple_of(ranks) {
        Err(FitError::Shares { batch_size, ranks })
    } else {
        Ok(())
    }
}

/// The checkpoint that rank 0 has found.
fn broadcast_checkpoint(found: Option<Checkpoint>, group: &ProcessGroup) -> Result<Option<Checkpoint>, FitError> {
    if group.is_single() {
        return Ok(found);
    }
    let position: Option<(PathBuf, State)> =
        group.broadcast(found.as_ref().map(|found| (found.path.clone(), found.state.clone())))?;
    let encoded = match found {
        None => Ok((Vec::new(), Vec::new())),
        Some(found) => found
            .head
            .into_bytes()
            .map_err(not_encoded)
            .and_then(|head| Ok((head.to_vec(), found.optimizer.into_bytes().map_err(not_encoded)?.to_vec()))),
    };
    let (head, optimizer) = group.all_ok(encoded)?;
    let Some((path, state)) = position else { return Ok(None) };
    let [head, optimizer] =
        [group.broadcast_bytes(head)?, group.broadcast_bytes(optimizer)?].map(Bytes::from_bytes_vec);
    let decoded = ModuleRecord::from_bytes(head).map_err(not_encoded).and_then(|head| {
        Ok(Checkpoint { head, optimizer: OptimizerRecord::from_bytes(optimizer).map_err(not_encoded)?, path, state })
    });
    group.all_ok(decoded).map(Some)
}

/// Writes the artifact.
fn export(
    config: &Config,
    components: &Components,
    head: &AnyHead,
    state: &State,
    output: &OutputFolder,
) -> Result<PathBuf, FitError> {
    let mut about = components.classifier.artifact_config(config, components.head.clone());
    about.figures.insert("training steps".into(), state.steps_made() as f64);
    about.figures.insert("training seconds".into(), state.seconds.round());
    about.figures.insert("training images".into(), components.train.len() as f64);
    if let Some(best) = &state.best {
        about.figures.insert("validation images".into(), best.images as f64);
        about.figures.extend(best.figures.clone());
    }
    let folder = output.path.join("artifact");
    Artifact { config: about, head: head.clone() }.save(&folder, &config.to_yaml().unwrap_or_default())?;
    Ok(folder)
}
