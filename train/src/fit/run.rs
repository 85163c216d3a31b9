//! A whole run: from its configuration to an artifact.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::train::Interrupter;
use explainer_zoo::artifact::Artifact;

use super::FitError;
use super::batches::Batches;
use super::checkpoint::{self, Checkpoint, CheckpointError, Identity, State, Store};
use super::context::Context;
use super::course::{Course, Position};
use super::first;
use super::identity::identity;
use super::phase::Phase;
use super::setup::{Setup, share, validated, validation};
use super::trainee::Trainee;
use crate::config::{Config, ExplainerConfig};
use crate::data::{Broken, ImageSet};
use crate::distributed::ProcessGroup;

/// Where a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// The beginning; an output folder that already holds checkpoints is refused.
    Start,
    /// The newest valid checkpoint in the output folder, or the beginning if there is none.
    Newest,
    /// This checkpoint.
    Path(PathBuf),
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// The artifact's folder, if the run came to its end.
    pub artifact: Option<PathBuf>,
    /// Where the run stands.
    pub state: State,
    /// Images that could not be read.
    pub broken: Vec<Broken>,
    /// Time spent waiting for images.
    pub waited: Duration,
    /// Messages for the user: checkpoints passed over, and where the run started.
    pub notes: Vec<String>,
    /// The trained head in its surroundings, for what is reported of it.
    pub trainee: Trainee,
    /// Those surroundings.
    pub context: Arc<Context>,
    /// The validation images.
    pub valid: Arc<dyn ImageSet>,
    /// Images in a validation batch.
    pub batch_size: usize,
    /// Images that the explainer has learned from, counted at every time.
    pub images: usize,
    /// Names of the classifier's classes, where known.
    pub class_names: Option<Vec<String>>,
}

/// Trains as `config` says, in one process. `interrupter` stops the run after a step, with a checkpoint.
///
/// # Errors
/// [`FitError`]; checkpoints and the log up to then are in the output folder.
pub fn run(config: &Config, from: &ResumeFrom, quiet: bool, interrupter: &Interrupter) -> Result<Finished, FitError> {
    run_together(config, from, quiet, interrupter, &ProcessGroup::single())
}

/// As [`run`], as one of the processes of `group`, all of which call it with the same configuration. Each reads its share of
/// every batch; the first one writes, and what it returns is the run's.
///
/// # Errors
/// As [`run`]. [`ProcessGroup::failed_together`] tells whether all have failed together.
pub fn run_together(
    config: &Config,
    from: &ResumeFrom,
    quiet: bool,
    interrupter: &Interrupter,
    group: &Arc<ProcessGroup>,
) -> Result<Finished, FitError> {
    let quiet = quiet || !group.is_main();
    let output = config.output_dir().to_path_buf();
    let prepared = shareable(config, group).and_then(|()| if group.is_main() { writable(&output) } else { Ok(()) });
    group.all_ok(prepared)?;
    let setup = Setup::together(config, quiet, group)?;
    let phases = Phase::all(config, &setup.context, setup.train.len());
    let total_steps = phases.last().map_or(0, Phase::end);
    let run_id =
        identity(config, setup.context.backbone.as_ref(), setup.context.auxiliary.as_ref(), setup.train.as_ref());
    let same = group.broadcast(run_id.clone())? == run_id;
    if let Some(rank) = group.all_gather(&same)?.iter().position(|same| !same) {
        return group.all_ok(Err(FitError::OtherRun { rank }));
    }
    let store = Store::new(output.join("checkpoints"), config.train.keep);
    let mut notes = Vec::new();
    let found = match group.is_main() {
        true => begin(from, &store, &output, &mut notes, &run_id),
        false => Ok(None),
    };
    let checkpoint = first::checkpoint(group.all_ok(found)?, group)?;
    let saved = checkpoint.as_ref().is_none_or(|found| store.holds(found));
    let state = checkpoint.as_ref().map_or_else(|| State::start(run_id, total_steps), |found| found.state.clone());

    let mut course = Course {
        config,
        head: &setup.head,
        group,
        device: &setup.context.device,
        train: setup.train.clone(),
        valid: Batches::new(validated(config, &setup.valid), share(validation(config), group), 0),
        output: &output,
        store: &store,
        quiet,
        interrupter,
        saved,
        broken: Vec::new(),
        waited: Duration::ZERO,
    };
    let mut at = Position { state, head: None, optimizer: None, best: None };
    if let Some(Checkpoint { head, optimizer, .. }) = checkpoint {
        (at.head, at.optimizer) = (Some(head), Some(optimizer));
    }
    let mut last = None;
    for (number, phase) in phases.iter().enumerate() {
        let done = at.state.step >= phase.end() && phase.steps > 0;
        if done && number + 1 < phases.len() {
            continue;
        }
        let (trainee, next) = course.run(phase, at)?;
        at = next;
        last = Some((trainee, phase));
        if at.state.step < phase.end() {
            break; // stopped
        }
    }
    let Some((last, phase)) = last else { return Err(FitError::Stopped("it has no phase".into())) };
    let Course { broken, waited, .. } = course;
    let Position { mut state, best, .. } = at;
    let trainee = match (best, &state.best) {
        (Some(best), _) => best,
        (None, _) if !group.is_main() => last,
        // The best came before the checkpoint that this run went on from.
        (None, Some(best)) => match checkpoint::load(&store.path(best.step), &state.run.clone()) {
            Ok(found) => last.clone().load_record(found.head),
            Err(error) => {
                notes.push(format!("the best checkpoint cannot be read, the last head is exported: {error}"));
                state.best = None; // its figures are not those of the exported head
                last
            }
        },
        (None, None) => last,
    };
    let made = |phase: &Phase| state.step.clamp(phase.first, phase.end()) - phase.first;
    let images: usize = phases.iter().map(|phase| made(phase) * phase.plan.batch_size).sum();
    let mut finished = Finished {
        artifact: None,
        broken,
        waited,
        notes,
        trainee,
        context: phase.context.clone(),
        valid: setup.valid.clone(),
        batch_size: config.train.batch_size,
        images: images.saturating_sub(state.skipped * phase.plan.batch_size),
        class_names: setup.classifier.class_names.clone(),
        state,
    };
    let done = finished.state.step >= total_steps && !finished.state.validation_due;
    if let Some(cache) = &finished.context.cache {
        if let Some(failure) = cache.failure() {
            finished.notes.push(format!("data.cache: clean passes could not be kept, they were repeated: {failure}"));
        }
        if done {
            cache.remove(); // before the artifact, which needs room too
        }
    }
    let artifact = match done && group.is_main() {
        true => export(config, &setup, &finished, &output).map(Some),
        false => Ok(None),
    };
    finished.artifact = group.all_ok(artifact)?;
    Ok(finished)
}

/// Refuses what several processes cannot train, or not in equal shares.
fn shareable(config: &Config, group: &ProcessGroup) -> Result<(), FitError> {
    let (ranks, batch_size) = (group.size(), config.train.batch_size);
    match &config.explainer {
        _ if group.is_single() => Ok(()),
        ExplainerConfig::MaskingModel(_) | ExplainerConfig::Bee(_) => {
            Err(FitError::OneProcess { method: config.explainer.method(), ranks })
        }
        _ if config.data.cache => Err(FitError::CacheShared { ranks }),
        _ if !batch_size.is_multiple_of(ranks) => Err(FitError::Shares { batch_size, ranks }),
        _ => Ok(()),
    }
}

/// Refuses an output folder that cannot be written: better now than after the first epoch.
fn writable(output: &Path) -> Result<(), FitError> {
    let refused = |source| FitError::Output { path: output.into(), source };
    fs::create_dir_all(output).map_err(refused)?;
    tempfile::tempfile_in(output).map_err(refused)?;
    Ok(())
}

/// The checkpoint to go on from. Makes the output folder this run's.
fn begin(
    from: &ResumeFrom,
    store: &Store,
    output: &Path,
    notes: &mut Vec<String>,
    run: &Identity,
) -> Result<Option<Checkpoint>, FitError> {
    store.restore()?;
    let found = start(from, store, output, notes, |path| checkpoint::load(path, run))?;
    store.sweep(); // the folder is this run's
    Ok(found.map(|(_, found)| found))
}

/// The checkpoint to go on from, as `load` reads it, and where it lies.
pub(super) fn start<T>(
    from: &ResumeFrom,
    store: &Store,
    output: &Path,
    notes: &mut Vec<String>,
    load: impl Fn(&Path) -> Result<T, CheckpointError>,
) -> Result<Option<(PathBuf, T)>, FitError> {
    match from {
        ResumeFrom::Start if store.steps().is_empty() => Ok(None),
        ResumeFrom::Start => Err(FitError::Occupied(output.into())),
        ResumeFrom::Path(path) => Ok(Some((path.clone(), load(path)?))),
        ResumeFrom::Newest => {
            let (found, mut passed_over) = store.newest(|path| Ok((path.to_path_buf(), load(path)?)));
            // A fresh start would take the folder from the run that it belongs to.
            if found.is_none()
                && let Some(at) = passed_over.iter().position(CheckpointError::is_foreign)
            {
                return Err(passed_over.swap_remove(at).into());
            }
            notes.extend(passed_over.iter().map(|error| format!("passed over a checkpoint: {error}")));
            match &found {
                Some((path, _)) => notes.push(format!("resumed from {}", path.display())),
                None => notes.push("no checkpoint to resume from: a fresh start".into()),
            }
            Ok(found)
        }
    }
}

fn export(config: &Config, setup: &Setup, finished: &Finished, output: &Path) -> Result<PathBuf, FitError> {
    let head = finished.trainee.head.clone();
    let mut about = setup.classifier.describe(config, setup.head.clone());
    about.figures.insert("training steps".into(), finished.state.steps_made() as f64);
    about.figures.insert("training seconds".into(), finished.state.seconds.round());
    about.figures.insert("training images".into(), setup.train.len() as f64);
    if let Some(best) = &finished.state.best {
        about.figures.insert("validation images".into(), best.images as f64);
        about.figures.extend(best.figures.clone());
    }
    let folder = output.join("artifact");
    Artifact { config: about, head }.save(&folder, &config.to_yaml().unwrap_or_default())?;
    Ok(folder)
}
