//! The folder of a run's checkpoints: written whole, a few kept, the newest found.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use explainer_zoo::weights::hash::sha256;

use super::{Checkpoint, CheckpointError, HEAD, OPTIMIZER, STATE, SUM, State};

const PREFIX: &str = "step-";
/// Names that no listing shows: of a checkpoint being written, of one that makes way for another of its step, and of one that
/// is being removed.
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
    /// Checkpoints in `folder`, of which the last `keep` and the best stay.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep: keep.max(1) }
    }

    /// Where the checkpoint of a step lies.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// Where the checkpoint of a step lies while another one takes its place.
    pub(super) fn aside(&self, step: usize) -> PathBuf {
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
            if begins(STAGING) || begins(ASIDE) || begins(REMOVED) {
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
        write_synced(&staging.path().join(SUM), format!("{}\n", sha256(&text)).as_bytes()).map_err(failed(SUM))?;
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
            // Under another name first: a run that is killed meanwhile must not leave half of a checkpoint.
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

/// Makes a rename in `folder` survive a power cut; only Unix can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
