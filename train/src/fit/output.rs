//! The output folder of a run, and where a run continues.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::FitError;
use super::checkpoint::{CheckpointError, Store, create_synced};

/// Where a run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// At the first step. An output folder that holds checkpoints is refused.
    Start,
    /// At the newest valid checkpoint in the output folder, or at the first step if there is none.
    Newest,
    /// At this checkpoint.
    Path(PathBuf),
}

/// The output folder, locked for this process: a second run that writes to it is refused. The lock ends with the process,
/// however that ends.
#[derive(Debug)]
pub(super) struct OutputFolder {
    pub path: PathBuf,
    /// Its checkpoints.
    pub store: Store,
    _lock: Option<File>,
}

impl OutputFolder {
    /// The folder `path` as ranks other than 0 know it: they do not write.
    pub fn unlocked(path: &Path, keep: usize) -> Self {
        Self { path: path.into(), store: Store::new(path.join("checkpoints"), keep), _lock: None }
    }

    /// Makes the folder `path`, checks that it is writable, and locks it. The last `keep` checkpoints and the best are kept.
    ///
    /// # Errors
    /// [`FitError::Output`] and [`FitError::Locked`].
    pub fn create(path: &Path, keep: usize) -> Result<Self, FitError> {
        let refused = |source| FitError::Output { path: path.into(), source };
        create_synced(path).map_err(refused)?;
        drop(tempfile::tempfile_in(path).map_err(refused)?); // now, not after the first epoch
        let lock = match File::open(path) {
            Ok(folder) => match folder.try_lock() {
                Err(fs::TryLockError::WouldBlock) => return Err(FitError::Locked(path.into())),
                Ok(()) => Some(folder),
                Err(fs::TryLockError::Error(_)) => None, // a file system without locks
            },
            Err(_) => None, // a system whose folders cannot be opened
        };
        Ok(Self { _lock: lock, ..Self::unlocked(path, keep) })
    }

    /// The checkpoint to continue from, as `load` reads it, with its folder. Debris of killed runs is put back or removed.
    /// `notes` gets messages for the user.
    ///
    /// # Errors
    /// [`FitError::Checkpoint`]; [`FitError::Occupied`] for a fresh start in a folder with checkpoints.
    pub fn resume<T>(
        &self,
        from: &ResumeFrom,
        notes: &mut Vec<String>,
        load: impl Fn(&Path) -> Result<T, CheckpointError>,
    ) -> Result<Option<(PathBuf, T)>, FitError> {
        self.store.restore()?;
        let found = self.find(from, notes, load)?;
        self.store.sweep(); // the folder is this run's
        Ok(found)
    }

    fn find<T>(
        &self,
        from: &ResumeFrom,
        notes: &mut Vec<String>,
        load: impl Fn(&Path) -> Result<T, CheckpointError>,
    ) -> Result<Option<(PathBuf, T)>, FitError> {
        match from {
            ResumeFrom::Start if self.store.steps().is_empty() => Ok(None),
            ResumeFrom::Start => Err(FitError::Occupied(self.path.clone())),
            ResumeFrom::Path(path) => Ok(Some((path.clone(), load(path)?))),
            ResumeFrom::Newest => {
                let (found, mut skipped) = self.store.newest(|path| Ok((path.to_path_buf(), load(path)?)));
                // A fresh start would take the folder from the run that it belongs to.
                if found.is_none()
                    && let Some(at) = skipped.iter().position(CheckpointError::is_foreign)
                {
                    return Err(skipped.swap_remove(at).into());
                }
                notes.extend(skipped.iter().map(|error| format!("passed over a checkpoint: {error}")));
                match &found {
                    Some((path, _)) => notes.push(format!("resumed from {}", path.display())),
                    None => notes.push("no checkpoint to resume from: a fresh start".into()),
                }
                Ok(found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let first = OutputFolder::create(&path, 1).unwrap();
        if cfg!(unix) {
            assert!(matches!(OutputFolder::create(&path, 1), Err(FitError::Locked(found)) if found == path));
        }
        drop(first);
        OutputFolder::create(&path, 1).unwrap();
    }
}
