//! Checkpoints of a run: head, optimizer and position, complete or not there at all.
//!
//! A checkpoint is a folder `step-00001000/` of `head.bpk`, `optimizer.bpk`, `state.json` and `state.sha256`. It is written
//! under another name, forced to the disk and renamed, so that a run that is killed at any moment leaves complete
//! checkpoints only. `state.json` holds the SHA-256 of the other two and `state.sha256` its own, so that any damaged byte is
//! detected. The newest checkpoint is the one with the largest step; clocks play no part. Random values are functions of the
//! step, so a checkpoint needs no state of a generator.

mod error;
mod identity;
mod state;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;

pub use error::CheckpointError;
pub use identity::RunIdentity;
pub use state::{Best, State, read_state};
pub use store::Store;
pub(super) use store::create_synced;

/// The version of the format that is written.
const SCHEMA_VERSION: u32 = 4;
/// The oldest version that is read. It differs in [`RunIdentity`] alone.
const OLDEST_VERSION: u32 = 3;
const HEAD: &str = "head.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const SUM: &str = "state.sha256";

/// A checkpoint that was read and is undamaged.
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// The position of the run.
    pub state: State,
    /// The head's parameters and running statistics.
    pub head: ModuleRecord,
    /// The optimizer's moments.
    pub optimizer: OptimizerRecord,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Reads a checkpoint of the run `run` and verifies every byte.
///
/// # Errors
/// [`CheckpointError`] names the file and what is wrong.
pub fn load(folder: &Path, run: &RunIdentity) -> Result<Checkpoint, CheckpointError> {
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

/// Reads the state and the files `names` of a checkpoint of the run `run` and verifies every byte.
///
/// # Errors
/// As [`load`].
pub fn load_files<const N: usize>(
    folder: &Path,
    run: &RunIdentity,
    names: [&str; N],
) -> Result<(State, [Vec<u8>; N]), CheckpointError> {
    let mut state = read_state(folder)?;
    run.check(&state.run, folder)?;
    (state.schema_version, state.run) = (SCHEMA_VERSION, run.clone()); // of an older format too
    let mut files = [const { Vec::new() }; N];
    for (name, bytes) in names.into_iter().zip(&mut files) {
        let path = folder.join(name);
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let Some(expected) = state.files.get(name) else { return Err(damaged(format!("{STATE} does not name it"))) };
        *bytes = fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        state::compare(bytes, expected).map_err(damaged)?;
    }
    Ok((state, files))
}

#[cfg(test)]
mod tests;
