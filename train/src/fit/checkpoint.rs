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

const SCHEMA_VERSION: u32 = 1;
const HEAD: &str = "head.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub schema_version: u32,
    /// Steps done: the batches `0..step` have been learned from.
    pub step: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// SHA-256 of what determines the run, by which another run's checkpoint is refused.
    pub run: String,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Training time so far in seconds, interruptions left out.
    pub seconds: f64,
    /// SHA-256 of the other files.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// The start of a run.
    pub fn start(run: String, total_steps: usize) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            step: 0,
            total_steps,
            run,
            best: None,
            seconds: 0.0,
            files: BTreeMap::new(),
        }
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
    /// The operating system refused.
    #[error("{}: cannot {action} the checkpoint: {source}; earlier checkpoints are untouched", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// The reason.
        source: io::Error,
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
        "{}: the checkpoint is of a run with another configuration (backbone, data, objective, optimizer, schedule or \
         train differ); resume with that run's train.yaml, or choose another --output",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
    },
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

    /// Writes a checkpoint and removes those that are no longer kept.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; older checkpoints are then still there.
    pub fn save(
        &self,
        mut state: State,
        head: ModuleRecord,
        optimizer: OptimizerRecord,
    ) -> Result<PathBuf, CheckpointError> {
        let path = self.path(state.step);
        let failed = |source: io::Error| CheckpointError::Io { path: path.clone(), action: "write", source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let staging = tempfile::Builder::new().prefix(".writing-").tempdir_in(&self.folder).map_err(failed)?;
        let parts = [
            (HEAD, head.into_bytes().map_err(|e| failed(io::Error::other(e.to_string())))?),
            (OPTIMIZER, optimizer.into_bytes().map_err(|e| failed(io::Error::other(e.to_string())))?),
        ];
        state.files = parts.iter().map(|(name, bytes)| (name.to_string(), sha256(bytes))).collect();
        for (name, bytes) in &parts {
            write_synced(&staging.path().join(name), bytes).map_err(failed)?;
        }
        let text = serde_json::to_vec_pretty(&state).map_err(|e| failed(e.into()))?;
        write_synced(&staging.path().join(STATE), &text).map_err(failed)?;
        sync_folder(staging.path()).map_err(failed)?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?; // the same step again, after a resume from an earlier one
        }
        fs::rename(staging.path(), &path).map_err(failed)?;
        let _ = staging.keep(); // renamed away: there is nothing left to clean up
        sync_folder(&self.folder).map_err(failed)?;
        self.prune(state.step, state.best.as_ref().map(|best| best.step));
        Ok(path)
    }

    /// Steps with a checkpoint, ascending.
    pub fn steps(&self) -> Vec<usize> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok();
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

    /// The newest checkpoint that is whole and of the run `run`, and what was wrong with newer ones.
    pub fn newest_valid(&self, run: &str) -> (Option<Checkpoint>, Vec<CheckpointError>) {
        let mut passed_over = Vec::new();
        for step in self.steps().into_iter().rev() {
            match load(&self.path(step), run) {
                Ok(checkpoint) => return (Some(checkpoint), passed_over),
                Err(error) => passed_over.push(error),
            }
        }
        (None, passed_over)
    }
}

/// Reads `state.json` alone.
///
/// # Errors
/// [`CheckpointError::Io`] and [`CheckpointError::Damaged`].
pub fn read_state(folder: &Path) -> Result<State, CheckpointError> {
    let path = folder.join(STATE);
    let bytes = fs::read(&path).map_err(|source| CheckpointError::Io { path: path.clone(), action: "read", source })?;
    let state: State = serde_json::from_slice(&bytes)
        .map_err(|e| CheckpointError::Damaged { path: path.clone(), reason: e.to_string() })?;
    if state.schema_version != SCHEMA_VERSION {
        let reason = format!("it has format {}, this program reads format {SCHEMA_VERSION}", state.schema_version);
        return Err(CheckpointError::Damaged { path, reason });
    }
    Ok(state)
}

/// Reads a checkpoint of the run `run`, checking every byte.
///
/// # Errors
/// [`CheckpointError`] names the file and what is wrong.
pub fn load(folder: &Path, run: &str) -> Result<Checkpoint, CheckpointError> {
    let state = read_state(folder)?;
    if state.run != run {
        return Err(CheckpointError::OtherRun { path: folder.into() });
    }
    let part = |name: &str| -> Result<Bytes, CheckpointError> {
        let path = folder.join(name);
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let found = sha256_file(&path).map_err(|e| damaged(e.to_string()))?;
        match state.files.get(name) {
            Some(expected) if *expected == found => {}
            Some(expected) => return Err(damaged(format!("its SHA-256 is {found}, {expected} was written"))),
            None => return Err(damaged(format!("{STATE} does not name it"))),
        }
        let read = |source| CheckpointError::Io { path: path.clone(), action: "read", source };
        Ok(Bytes::from_bytes_vec(fs::read(&path).map_err(read)?))
    };
    let damaged = |name: &str, e: String| CheckpointError::Damaged { path: folder.join(name), reason: e };
    Ok(Checkpoint {
        head: ModuleRecord::from_bytes(part(HEAD)?).map_err(|e| damaged(HEAD, e.to_string()))?,
        optimizer: OptimizerRecord::from_bytes(part(OPTIMIZER)?).map_err(|e| damaged(OPTIMIZER, e.to_string()))?,
        path: folder.into(),
        state,
    })
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
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::LinearConfig;
    use burn::optim::{ModuleOptimizer, SgdConfig};
    use burn::tensor::Device;

    fn save(store: &Store, step: usize, best: Option<usize>) -> Result<PathBuf, CheckpointError> {
        let optimizer: ModuleOptimizer = SgdConfig::new().init();
        let best = best.map(|step| Best { step, ad50: 1.0, figures: BTreeMap::new() });
        let state = State { step, best, ..State::start("run".into(), 10) };
        let head = LinearConfig::new(3, 2).init(&Device::default()).into_record();
        store.save(state, head, optimizer.to_record())
    }

    #[test]
    fn the_last_few_and_the_best_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().into(), 2);
        for step in 1..=5 {
            save(&store, step, Some(2.min(step))).unwrap();
        }
        assert_eq!(store.steps(), [2, 4, 5]);
        let debris = fs::read_dir(folder.path()).unwrap().flatten().count();
        assert_eq!(debris, 3, "nothing but checkpoints is left");
    }

    #[test]
    fn a_flipped_bit_is_noticed_and_the_previous_one_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().into(), 3);
        for step in [1, 2] {
            save(&store, step, None).unwrap();
        }
        let head = store.path(2).join(HEAD);
        let mut bytes = fs::read(&head).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&head, bytes).unwrap();
        let (found, passed_over) = store.newest_valid("run");
        assert_eq!(found.unwrap().state.step, 1);
        assert!(matches!(&passed_over[..], [CheckpointError::Damaged { .. }]), "{passed_over:?}");
    }

    #[test]
    fn a_damaged_later_step_does_not_push_a_good_one_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().into(), 1);
        fs::create_dir(store.path(9)).unwrap();
        save(&store, 3, None).unwrap();
        assert_eq!(store.newest_valid("run").0.unwrap().state.step, 3);
    }

    #[test]
    fn another_runs_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().into(), 1);
        let path = save(&store, 1, None).unwrap();
        assert!(matches!(load(&path, "other"), Err(CheckpointError::OtherRun { .. })));
        assert!(store.newest_valid("other").0.is_none());
    }
}
