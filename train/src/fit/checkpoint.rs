//! Checkpoints of a run: head, optimizer and position, complete or not there at all.
//!
//! A checkpoint is a folder `step-00001000/` of `head.bpk`, `optimizer.bpk` and `state.json`. It is written under another
//! name, forced to the disk and renamed, so that a run killed at any moment leaves whole checkpoints only. `state.json`
//! holds the SHA-256 of the other two, so that damage is noticed. Randomness is a function of the step, so nothing else
//! is needed to go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use explainer_zoo::weights::hash::{sha256, sha256_file};
use serde::{Deserialize, Serialize};

const SCHEMA_VERSION: u32 = 2;
const HEAD: &str = "head.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
/// Names that no listing shows: of a checkpoint being written, and of one that makes way for another of its step.
const STAGING: &str = ".writing-";
const ASIDE: &str = ".replaced-";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub schema_version: u32,
    /// Steps done: the batches `0..step` have been learned from, those without a readable image aside.
    pub step: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// How many of the steps done had no readable image and were passed over.
    pub skipped: usize,
    /// Whether the validation after `step` was not made, or not to its end.
    pub validation_due: bool,
    /// The run that this is a state of.
    pub run: Identity,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Training time so far in seconds, interruptions left out.
    pub seconds: f64,
    /// SHA-256 of the other files.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// The start of a run.
    pub fn start(run: Identity, total_steps: usize) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            step: 0,
            total_steps,
            skipped: 0,
            validation_due: false,
            run,
            best: None,
            seconds: 0.0,
            files: BTreeMap::new(),
        }
    }

    /// Steps that the head was trained in.
    pub fn steps_made(&self) -> usize {
        self.step.saturating_sub(self.skipped)
    }
}

/// What determines a run, by which another run's checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SHA-256 of the configuration and the backbone's weights.
    pub configuration: String,
    /// Number of training images.
    pub images: usize,
    /// SHA-256 of what tells the set of training images from another.
    pub images_sha256: String,
}

impl Identity {
    /// Refuses the checkpoint at `path`, which is of the run `found`, unless it is this very run.
    fn check(&self, found: &Self, path: &Path) -> Result<(), CheckpointError> {
        if found.configuration != self.configuration {
            return Err(CheckpointError::OtherRun { path: path.into() });
        }
        if found != self {
            return Err(CheckpointError::OtherImages { path: path.into(), before: found.images, now: self.images });
        }
        Ok(())
    }
}

/// The step with the best validation figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps done then.
    pub step: usize,
    /// AD(50) then, in percent; lower is better.
    pub ad50: f64,
    /// Validation images that the figures were measured on.
    pub images: usize,
    /// All figures then, by name.
    pub figures: BTreeMap<String, f64>,
}

/// A checkpoint that was read and found whole.
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: State,
    /// The trainee's parameters and running statistics.
    pub head: ModuleRecord,
    /// The optimizer's moments.
    pub optimizer: OptimizerRecord,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused to read.
    #[error("{}: cannot read the checkpoint: {source}; give a folder step-..., or --resume auto", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The operating system refused to write.
    #[error(
        "{}: cannot write the checkpoint: {source}; earlier checkpoints are untouched: see to free space and \
         permissions there and go on with --resume auto",
        path.display()
    )]
    Write {
        /// File or folder, under its final name.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Its format is another one.
    #[error(
        "{}: the checkpoint has format {found}, this program reads format {}; go on with the version of this program \
         that wrote it, or choose another --output",
        path.display(),
        SCHEMA_VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// A file is not what was written.
    #[error("{}: the checkpoint is damaged: {reason}; take an earlier one, or --resume auto", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs to another run.
    #[error(
        "{}: the checkpoint is of a run with another configuration (explainer, backbone, auxiliary, data, objective, \
         optimizer, schedule or train differ); resume with that run's train.yaml, or choose another --output",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The training images are no longer those of the run.
    #[error(
        "{}: the checkpoint is of a run on other training images: there were {before}, now there are {now}{}; bring \
         back those that data.train had then, or choose another --output",
        path.display(),
        unlike(*before, *now)
    )]
    OtherImages {
        /// The checkpoint.
        path: PathBuf,
        /// Training images of the checkpoint's run.
        before: usize,
        /// Training images of this run.
        now: usize,
    },
}

impl CheckpointError {
    /// Whether the checkpoint may well be whole, but not for this run to go on from.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::OtherRun { .. } | Self::OtherImages { .. })
    }

    fn write(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path, source }
    }
}

/// How as many images as before can still be others.
fn unlike(before: usize, now: usize) -> &'static str {
    if before == now { ", with other names or in another order" } else { "" }
}

/// The checkpoints of one run's output folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// Checkpoints in `folder`, of which the last `keep` and the best stay.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep: keep.max(1) }
    }

    /// Where the checkpoint of a step lies.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// Where the checkpoint of a step lies while another one takes its place.
    fn aside(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{ASIDE}{step:08}"))
    }

    /// Whether `checkpoint` is the one of its step in here, by whatever path it was read.
    pub fn holds(&self, checkpoint: &Checkpoint) -> bool {
        self.is_here(&checkpoint.path, checkpoint.state.step)
    }

    /// Whether `path` is where the checkpoint of `step` lies in here.
    pub fn is_here(&self, path: &Path, step: usize) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        real(path).is_some_and(|path| Some(path) == real(&self.path(step)))
    }

    /// Puts back the checkpoints that made way for others that never came, because the run was killed in between.
    /// Before this the folder may seem to have none.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn restore(&self) -> Result<(), CheckpointError> {
        for step in self.numbered(ASIDE) {
            let path = self.path(step);
            if !path.exists() {
                fs::rename(self.aside(step), &path).map_err(CheckpointError::write(path.clone()))?;
                sync_folder(&self.folder).map_err(CheckpointError::write(self.folder.clone()))?;
            }
        }
        Ok(())
    }

    /// Removes what a killed run had begun to write or had replaced already. Only for the run that the folder belongs
    /// to: of one that still writes, this would take the work away. What cannot be removed costs space only: no error.
    pub fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            if begins(STAGING) || begins(ASIDE) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Writes a checkpoint of a head and removes those that are no longer kept.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; older checkpoints are then still there.
    pub fn save(
        &self,
        state: State,
        head: ModuleRecord,
        optimizer: OptimizerRecord,
    ) -> Result<PathBuf, CheckpointError> {
        let path = self.path(state.step);
        let failed = |name: &str| CheckpointError::write(path.join(name));
        let head = head.into_bytes().map_err(|e| failed(HEAD)(io::Error::other(e.to_string())))?;
        let optimizer = optimizer.into_bytes().map_err(|e| failed(OPTIMIZER)(io::Error::other(e.to_string())))?;
        self.save_files(state, &[(HEAD, &head), (OPTIMIZER, &optimizer)])
    }

    /// Writes a checkpoint of these files and removes those that are no longer kept.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_files(&self, mut state: State, files: &[(&str, &[u8])]) -> Result<PathBuf, CheckpointError> {
        let path = self.path(state.step);
        let failed = |name: &str| CheckpointError::write(path.join(name));
        fs::create_dir_all(&self.folder).map_err(CheckpointError::write(self.folder.clone()))?;
        let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(&self.folder);
        let staging = staging.map_err(CheckpointError::write(self.folder.clone()))?;
        state.files = files.iter().map(|(name, bytes)| (name.to_string(), sha256(bytes))).collect();
        for (name, bytes) in files {
            write_synced(&staging.path().join(name), bytes).map_err(failed(name))?;
        }
        let text = serde_json::to_vec_pretty(&state).map_err(|e| failed(STATE)(e.into()))?;
        write_synced(&staging.path().join(STATE), &text).map_err(failed(STATE))?;
        sync_folder(staging.path()).map_err(CheckpointError::write(path.clone()))?;
        self.put(staging.path(), state.step).map_err(CheckpointError::write(path.clone()))?;
        let _ = staging.keep(); // renamed away: there is nothing left to clean up
        self.prune(state.step, state.best.as_ref().map(|best| best.step));
        Ok(path)
    }

    /// Makes the folder `written` the checkpoint of `step`. One of that step is there already after a resume; it goes
    /// aside first, so that at any moment one of the two can be had, see [`Store::restore`].
    fn put(&self, written: &Path, step: usize) -> io::Result<()> {
        let (path, aside) = (self.path(step), self.aside(step));
        let replaced = path.exists();
        if replaced {
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(&path, &aside)?;
        }
        if let Err(error) = fs::rename(written, &path) {
            if replaced {
                let _ = fs::rename(&aside, &path); // if not, the next run puts it back
            }
            return Err(error);
        }
        sync_folder(&self.folder)?;
        if replaced {
            let _ = fs::remove_dir_all(&aside); // if not, it costs space only
        }
        Ok(())
    }

    /// Steps with a checkpoint, ascending.
    pub fn steps(&self) -> Vec<usize> {
        self.numbered(PREFIX)
    }

    /// The numbers behind `prefix` in the names of the folder's entries, ascending.
    fn numbered(&self, prefix: &str) -> Vec<usize> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok();
        let mut steps: Vec<usize> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Removes what is older than the last few up to `newest`, the best excepted. Later steps, left by a run that went
    /// on from an earlier checkpoint or damaged, do not count. What cannot be removed costs space only: no error.
    fn prune(&self, newest: usize, best: Option<usize>) {
        let steps: Vec<usize> = self.steps().into_iter().filter(|step| *step <= newest).collect();
        let old = steps.len().saturating_sub(self.keep);
        for step in steps.into_iter().take(old).filter(|step| Some(*step) != best) {
            let _ = fs::remove_dir_all(self.path(step));
        }
    }

    /// The newest checkpoint that `load` can read, and what was wrong with newer ones.
    pub fn newest<T>(&self, load: impl Fn(&Path) -> Result<T, CheckpointError>) -> (Option<T>, Vec<CheckpointError>) {
        let mut passed_over = Vec::new();
        for step in self.steps().into_iter().rev() {
            match load(&self.path(step)) {
                Ok(checkpoint) => return (Some(checkpoint), passed_over),
                Err(error) => passed_over.push(error),
            }
        }
        (None, passed_over)
    }
}

/// Reads `state.json` alone. The version is looked at first: what else another one holds is not for this program to say.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Version`] and [`CheckpointError::Damaged`].
pub fn read_state(folder: &Path) -> Result<State, CheckpointError> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let path = folder.join(STATE);
    let bytes = fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
    let damaged = |e: serde_json::Error| CheckpointError::Damaged { path: path.clone(), reason: e.to_string() };
    let Version { schema_version: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if found != SCHEMA_VERSION {
        return Err(CheckpointError::Version { path: path.clone(), found });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// Reads a checkpoint of the run `run`, checking every byte.
///
/// # Errors
/// [`CheckpointError`] names the file and what is wrong.
pub fn load(folder: &Path, run: &Identity) -> Result<Checkpoint, CheckpointError> {
    let (state, files) = load_files(folder, run, [HEAD, OPTIMIZER])?;
    let [head, optimizer] = files.map(Bytes::from_bytes_vec);
    let damaged = |name: &str, e: String| CheckpointError::Damaged { path: folder.join(name), reason: e };
    Ok(Checkpoint {
        head: ModuleRecord::from_bytes(head).map_err(|e| damaged(HEAD, e.to_string()))?,
        optimizer: OptimizerRecord::from_bytes(optimizer).map_err(|e| damaged(OPTIMIZER, e.to_string()))?,
        path: folder.into(),
        state,
    })
}

/// Reads the state and these files of a checkpoint of the run `run`, checking every byte.
///
/// # Errors
/// As [`load`].
pub fn load_files<const N: usize>(
    folder: &Path,
    run: &Identity,
    names: [&str; N],
) -> Result<(State, [Vec<u8>; N]), CheckpointError> {
    let state = read_state(folder)?;
    run.check(&state.run, folder)?;
    let mut files = [const { Vec::new() }; N];
    for (name, bytes) in names.into_iter().zip(&mut files) {
        let path = folder.join(name);
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let found = sha256_file(&path).map_err(|e| damaged(e.to_string()))?;
        match state.files.get(name) {
            Some(expected) if *expected == found => {}
            Some(expected) => return Err(damaged(format!("its SHA-256 is {found}, {expected} was written"))),
            None => return Err(damaged(format!("{STATE} does not name it"))),
        }
        *bytes = fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
    }
    Ok((state, files))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename in `folder` survive a power cut; only Unix can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests;
