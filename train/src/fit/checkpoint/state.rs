//! `state.json`: the position of a run, and which run it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use explainer_zoo::weights::hash::sha256;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, OLDEST_VERSION, RunIdentity, SCHEMA_VERSION, STATE, SUM};

/// The position of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub schema_version: u32,
    /// Steps done: the head has learned from the batches `0..step`, except those without a readable image.
    pub step: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// How many of these steps had no readable image and were skipped.
    pub skipped: usize,
    /// Whether the validation after `step` is still to be made.
    pub validation_due: bool,
    /// The run that this is the state of.
    pub run: RunIdentity,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Training time so far in seconds, without interruptions.
    pub seconds: f64,
    /// SHA-256 of the other files.
    pub files: BTreeMap<String, String>,
}

impl State {
    /// The start of a run.
    pub fn start(run: RunIdentity, total_steps: usize) -> Self {
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

    /// Steps that the head has learned from.
    pub fn steps_made(&self) -> usize {
        self.step.saturating_sub(self.skipped)
    }
}

/// The best validation so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: usize,
    /// Its AD(50) in percent; lower is better.
    pub ad50: f64,
    /// The number of its images.
    pub images: usize,
    /// All its figures, by name.
    pub figures: BTreeMap<String, f64>,
}

/// Reads the state alone: its checksum first, then the version, then the rest.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Version`] and [`CheckpointError::Damaged`].
pub fn read_state(folder: &Path) -> Result<State, CheckpointError> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let path = folder.join(STATE);
    let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
    let bytes = fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
    let sum = match fs::read(folder.join(SUM)) {
        Ok(text) => Some(String::from_utf8_lossy(&text).trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(CheckpointError::Read { path: folder.join(SUM), source }),
    };
    if let Some(expected) = &sum {
        compare(&bytes, expected).map_err(damaged)?;
    }
    let Version { schema_version: found } = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if !(OLDEST_VERSION..=SCHEMA_VERSION).contains(&found) {
        return Err(CheckpointError::Version { path: path.clone(), found });
    }
    if sum.is_none() {
        return Err(damaged(format!("{SUM} is not beside it")));
    }
    serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
}

/// Compares the SHA-256 of `bytes` with `expected`.
pub(super) fn compare(bytes: &[u8], expected: &str) -> Result<(), String> {
    let found = sha256(bytes);
    if found == expected { Ok(()) } else { Err(format!("its SHA-256 is {found}, {expected} was written")) }
}
