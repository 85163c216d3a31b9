//! The folder of a run's checkpoints: each is written completely, a few are kept, the newest is found.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use explainer_zoo::weights::hash::sha256;

use super::{Checkpoint, CheckpointError, HEAD, OPTIMIZER, STATE, SUM, State};

const PREFIX: &str = "step-";
/// Hidden names: of a checkpoint that is being written, of one that is being replaced by another of the same step, and of
/// one that is being removed.
const STAGING: &str = ".writing-";
const ASIDE: &str = ".replaced-";
const REMOVED: &str = ".removed-";

/// The checkpoints of one run's output folder.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) folder: PathBuf,
    keep: usize,
}

impl Store {
    /// Checkpoints in `folder`, of which the last `keep` and the best are kept.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep: keep.max(1) }
    }

    /// The folder of the checkpoint of a step.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// The folder of the checkpoint of a step while another one replaces it.
    pub(super) fn aside(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{ASIDE}{step:08}"))
    }

    /// Whether `checkpoint` was read from this store, by whatever path.
    pub fn holds(&self, checkpoint: &Checkpoint) -> bool {
        self.is_here(&checkpoint.path, checkpoint.state.step)
    }

    /// Whether `path` is the folder of the checkpoint of `step` in this store.
    pub fn is_here(&self, path: &Path, step: usize) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        real(path).is_some_and(|path| Some(path) == real(&self.path(step)))
    }

    /// Puts back the checkpoints that were moved aside by a run that was killed before it had replaced them. Before this
    /// the folder may seem to have none.
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

    /// Removes the incomplete and replaced checkpoints of killed runs. Only for the run that the folder belongs to. What
    /// cannot be removed takes space only: no error.
    pub fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            if begins(STAGING) || begins(ASIDE) || begins(REMOVED) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Writes a checkpoint of a head and removes older ones.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; older checkpoints are untouched.
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

    /// Writes a checkpoint of these files and removes older ones.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_files(&self, mut state: State, files: &[(&str, &[u8])]) -> Result<PathBuf, CheckpointError> {
        let path = self.path(state.step);
        let failed = |name: &str| CheckpointError::write(path.join(name));
        create_synced(&self.folder).map_err(CheckpointError::write(self.folder.clone()))?;
        let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(&self.folder);
        let staging = staging.map_err(CheckpointError::write(self.folder.clone()))?;
        state.files = files.iter().map(|(name, bytes)| (name.to_string(), sha256(bytes))).collect();
        for (name, bytes) in files {
            write_synced(&staging.path().join(name), bytes).map_err(failed(name))?;
        }
        let text = serde_json::to_vec_pretty(&state).map_err(|e| failed(STATE)(e.into()))?;
        write_synced(&staging.path().join(STATE), &text).map_err(failed(STATE))?;
        write_synced(&staging.path().join(SUM), format!("{}\n", sha256(&text)).as_bytes()).map_err(failed(SUM))?;
        sync_folder(staging.path()).map_err(CheckpointError::write(path.clone()))?;
        self.put(staging.path(), state.step).map_err(CheckpointError::write(path.clone()))?;
        let _ = staging.keep(); // renamed away: there is nothing left to clean up
        self.prune(state.step, state.best.as_ref().map(|best| best.step));
        Ok(path)
    }

    /// Makes the folder `written` the checkpoint of `step`. After a resume there may be one of that step already; it is
    /// moved aside first, so that one of the two exists at any moment, see [`Store::restore`].
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

    /// The numbers after `prefix` in the names of the folder's entries, ascending.
    fn numbered(&self, prefix: &str) -> Vec<usize> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok();
        let mut steps: Vec<usize> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Removes all but the last few up to `newest` and the best. Later steps, of a run that was resumed from an earlier
    /// checkpoint, are neither counted nor removed. What cannot be removed takes space only: no error.
    fn prune(&self, newest: usize, best: Option<usize>) {
        let steps: Vec<usize> = self.steps().into_iter().filter(|step| *step <= newest).collect();
        let old = steps.len().saturating_sub(self.keep);
        for step in steps.into_iter().take(old).filter(|step| Some(*step) != best) {
            // Renamed first: a run that is killed meanwhile must not leave half of a checkpoint.
            let (path, removed) = (self.path(step), self.folder.join(format!("{REMOVED}{step:08}")));
            let _ = fs::remove_dir_all(&removed);
            let _ = fs::rename(&path, &removed);
            let _ = fs::remove_dir_all(&removed);
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

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes `folder` and its missing parents, and forces their entries to the disk: otherwise a power cut could take the folder
/// with all that is in it.
pub(in super::super) fn create_synced(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_synced(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => return Err(error),
        _ => {}
    }
    sync_folder(parent)
}

/// Makes a rename in `folder` survive a power cut. On Unix only.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
