//! A whole run: from its configuration to an artifact.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::train::Interrupter;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::tame::SyncBatchNorm;
use explainer_zoo::explainer::{AnyConfig, Method, TameConfig};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::hash::sha256;

use super::FitError;
use super::batches::Batches;
use super::checkpoint::{self, Checkpoint, CheckpointError, Identity, State, Store};
use super::classifier::Classifier;
use super::context::{Context, Task};
use super::course::{Course, Position};
use super::first;
use super::phase::Phase;
use super::trainee::Trainee;
use crate::config::{Augment, Config, Data, Distributed, Explainer};
use crate::data::shapes::{SIDE, Split};
use crate::data::{self, Broken, ImageSet, Plan, Scenes, Subset};
use crate::distributed::{Team, own_device, own_threads};

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
    run_together(config, from, quiet, interrupter, &Team::alone())
}

/// As [`run`], as one of the processes of `team`, all of which call it with the same configuration. Each reads its share of
/// every batch; the first one writes, and what it returns is the run's.
///
/// # Errors
/// As [`run`]. [`Team::agreed`] tells whether all have failed together.
pub fn run_together(
    config: &Config,
    from: &ResumeFrom,
    quiet: bool,
    interrupter: &Interrupter,
    team: &Arc<Team>,
) -> Result<Finished, FitError> {
    let quiet = quiet || !team.writes();
    let output = config.output_dir().to_path_buf();
    let prepared = shareable(config, team).and_then(|()| if team.writes() { writable(&output) } else { Ok(()) });
    team.together(prepared)?;
    let setup = Setup::together(config, quiet, team)?;
    let phases = Phase::all(config, &setup.context, setup.train.len());
    let total_steps = phases.last().map_or(0, Phase::end);
    let run_id = identity(config, &setup);
    let same = team.first(run_id.clone())? == run_id;
    if let Some(rank) = team.tell(&same)?.iter().position(|same| !same) {
        return team.together(Err(FitError::OtherRun { rank }));
    }
    let store = Store::new(output.join("checkpoints"), config.train.keep);
    let mut notes = Vec::new();
    let found = match team.writes() {
        true => begin(from, &store, &output, &mut notes, &run_id),
        false => Ok(None),
    };
    let checkpoint = first::checkpoint(team.together(found)?, team)?;
    let saved = checkpoint.as_ref().is_none_or(|found| store.holds(found));
    let state = checkpoint.as_ref().map_or_else(|| State::start(run_id, total_steps), |found| found.state.clone());

    let mut course = Course {
        config,
        head: &setup.head,
        team,
        device: &setup.context.device,
        train: setup.train.clone(),
        valid: Batches::new(validated(config, &setup.valid), share(validation(config), team), 0),
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
        (None, _) if !team.writes() => last,
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
    let artifact = match done && team.writes() {
        true => export(config, &setup, &finished, &output).map(Some),
        false => Ok(None),
    };
    finished.artifact = team.together(artifact)?;
    Ok(finished)
}

/// Refuses what several processes cannot train, or not in equal shares.
fn shareable(config: &Config, team: &Team) -> Result<(), FitError> {
    let (ranks, batch_size) = (team.size(), config.train.batch_size);
    match &config.explainer {
        _ if team.is_alone() => Ok(()),
        Explainer::MaskingModel(_) | Explainer::Bee(_) => {
            Err(FitError::OneProcess { method: config.explainer.method(), ranks })
        }
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

/// The share of a plan that this process reads.
fn share(plan: Plan, team: &Team) -> Plan {
    Plan { share: (team.rank(), team.size()), ..plan }
}

/// Everything a run is made of, loaded and checked.
struct Setup {
    classifier: Classifier,
    context: Arc<Context>,
    head: AnyConfig,
    train: Arc<dyn ImageSet>,
    valid: Arc<dyn ImageSet>,
}

impl Setup {
    /// That of one of several processes. The first of each machine goes ahead: what it downloads the others find.
    fn together(config: &Config, quiet: bool, team: &Arc<Team>) -> Result<Self, FitError> {
        let make = || {
            let device = own_device(&config.device, team)?;
            Self::new(config, &Compute::new(&device, own_threads(config.threads, team))?, quiet, team)
        };
        let leads = team.node().0 == 0;
        let ahead = team.together(if leads { make().map(Some) } else { Ok(None) })?;
        let own = match ahead {
            Some(setup) => Ok(setup),
            None => make(),
        };
        team.together(own)
    }

    fn new(config: &Config, compute: &Compute, quiet: bool, team: &Arc<Team>) -> Result<Self, FitError> {
        let mut classifier = Classifier::load(config, compute, quiet)?;
        let (preprocessing, classes) = (&classifier.preprocessing, classifier.backbone.spec().classes);
        let head = shape(config, &classifier)?;
        let [train, valid] = sets(config, preprocessing)?;
        let named = || Some(train.classes().to_vec()).filter(|names| names.len() == classes);
        classifier.class_names = classifier.class_names.or_else(named);
        let context = Context {
            backbone: classifier.backbone.clone(),
            taps: classifier.ids.clone(),
            adapters: classifier.adapters.clone(),
            auxiliary: classifier.auxiliary.clone(),
            task: Task::of(config), // another phase has another
            device: compute.device.clone(),
            clip_norm: config.optimizer.clip_norm(),
            sync: (!team.is_alone() && config.distributed.sync_batch_norm).then(|| SyncBatchNorm::new(team.clone())),
            team: team.clone(),
        };
        Ok(Self { classifier, context: Arc::new(context), head, train, valid })
    }
}

/// The shape of the explainer.
fn shape(config: &Config, classifier: &Classifier) -> Result<AnyConfig, FitError> {
    let (taps, classes, side) =
        (&classifier.tap_specs, classifier.backbone.spec().classes, classifier.preprocessing.crop);
    if let Explainer::MaskingModel(section) = &config.explainer {
        return Ok(section.shape(taps, classes, side)?.into());
    }
    let mut head = match classifier.method {
        Method::Ptame => TameConfig::ptame(taps, classes, side)?,
        _ => TameConfig::ttame(taps, classes, side),
    };
    head.branches = !config.explainer.is_lcam();
    head.fuse_bias = config.explainer.fuse_bias();
    if let Some(side) = config.explainer.map_size() {
        head.map_size = [side; 2];
    }
    Ok(head.into())
}

/// How training images are read, so many a batch.
pub(super) fn training(config: &Config, batch_size: usize, epochs: usize) -> Plan {
    let has = |augment| config.data.augment.contains(&augment);
    let mut plan = Plan::training(batch_size, epochs, config.train.seed);
    plan.augment = data::Augment { crop: has(Augment::RandomCrop), flip: has(Augment::Flip) };
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// How validation images are read.
pub(super) fn validation(config: &Config) -> Plan {
    let mut plan = Plan::validation(config.train.batch_size);
    plan.max_broken = config.data.max_broken;
    plan.workers = config.data.workers;
    plan
}

/// The validation images that a validation looks at.
pub(super) fn validated(config: &Config, valid: &Arc<dyn ImageSet>) -> Arc<dyn ImageSet> {
    match config.train.validate_images {
        Some(count) if count < valid.len() => Arc::new(Subset::sample(valid.clone(), count, config.train.seed)),
        _ => valid.clone(),
    }
}

/// Training and validation images.
pub(super) fn sets(config: &Config, preprocessing: &Preprocessing) -> Result<[Arc<dyn ImageSet>; 2], FitError> {
    let (data, seed) = (&config.data, config.train.seed);
    Ok([
        images(&data.train, data.train_images, Split::Train, seed, preprocessing)?,
        images(&data.val, data.val_images, Split::Val, seed, preprocessing)?,
    ])
}

fn images(
    place: &str,
    count: Option<usize>,
    split: Split,
    seed: u64,
    preprocessing: &Preprocessing,
) -> Result<Arc<dyn ImageSet>, FitError> {
    if place == Data::SHAPES {
        if preprocessing.crop != SIDE {
            return Err(FitError::Shapes { expected: SIDE, found: preprocessing.crop });
        }
        return Ok(Arc::new(Scenes::new(split, count.unwrap_or(1024), seed)));
    }
    let set = data::open(Path::new(place), preprocessing)?;
    Ok(match count {
        Some(count) if count < set.len() => Arc::new(Subset::sample(set, count, seed)),
        _ => set,
    })
}

/// What must be the same for a checkpoint to fit.
fn identity(config: &Config, setup: &Setup) -> Identity {
    let mut weights = setup.context.backbone.spec().weights_sha256.clone().unwrap_or_default();
    let auxiliary = setup.context.auxiliary.as_ref();
    weights.extend(auxiliary.and_then(|auxiliary| auxiliary.backbone.spec().weights_sha256.clone()));
    identified(config, &weights, setup.train.as_ref())
}

/// The run of a configuration, with the SHA-256 of its classifiers' weights, on training images.
pub(super) fn identified(config: &Config, weights: &str, train: &dyn ImageSet) -> Identity {
    let configuration = sha256(format!("{}{weights}", in_common(config).to_yaml().unwrap_or_default()).as_bytes());
    Identity { configuration, images: train.len(), images_sha256: train.digest() }
}

/// The part of a configuration that stays as it is over all of a run: everything but where its files lie and how often
/// it looks up.
fn in_common(config: &Config) -> Config {
    let mut same = config.clone();
    same.output = None;
    same.threads = None;
    same.device = String::new();
    same.distributed = Distributed::default(); // how many train it is no part of a run, nor how
    same.backbone.weights = String::new();
    same.backbone.classes = None;
    if let Some(auxiliary) = &mut same.auxiliary {
        auxiliary.weights.clear();
    }
    if let Explainer::Bee(bee) = &mut same.explainer
        && let Some(context) = &mut bee.context
    {
        context.weights.clear();
    }
    for place in [&mut same.data.train, &mut same.data.val] {
        if *place != Data::SHAPES {
            place.clear();
        }
    }
    same.data.workers = 1;
    same.data.max_broken = 0.0;
    same.train.checkpoint_every = 1;
    same.train.validate_every = 0;
    same.train.validate_images = None;
    same.train.keep = 1;
    same.train.log_every = 1;
    same
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Config::load(Path::new(quickstart), &overrides).unwrap()
    }

    #[test]
    fn a_run_is_the_same_wherever_its_files_lie() {
        let here = config(&["data.train=images/train", "data.val=images/val", "backbone.classes=names.txt"]);
        let there = config(&["data.train=/images/train", "data.val=/images/val", "output=/elsewhere"]);
        assert_eq!(in_common(&here), in_common(&there));
        // Where and how often to look up is no part of it either.
        let often = config(&["data.train=train", "data.val=val", "train.validate_images=7", "train.keep=5"]);
        assert_eq!(in_common(&here), in_common(&often));
    }

    #[test]
    fn where_an_auxiliarys_weights_lie_is_no_part_of_a_run() {
        let at = |weights: &str, taps: &str| {
            let auxiliary = format!("auxiliary={{name: resnet18, weights: {weights}, taps: [{taps}]}}");
            in_common(&config(&["explainer={method: ptame}", &auxiliary]))
        };
        assert_eq!(at("here.pth", "layer1"), at("there.pth", "layer1"));
        assert_ne!(at("here.pth", "layer1"), at("here.pth", "layer2"));
        assert!(!config(&[]).to_yaml().unwrap().contains("auxiliary"), "it would make other runs of those before it");
    }

    #[test]
    fn a_run_is_another_one_with_other_settings_or_procedural_images() {
        let run = in_common(&config(&["data.train=train", "data.val=val"]));
        for other in [
            &["data.train=train", "data.val=val", "train.seed=7"][..],
            &["data.train=train", "data.val=val", "data.train_images=7"],
            &["data.train=shapes", "data.val=val"],
            &["data.train=train", "data.val=shapes"],
        ] {
            assert_ne!(in_common(&config(other)), run, "{other:?}");
        }
    }
}
