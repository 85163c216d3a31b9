//! `state.json`: where a run stands, and which run it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use explainer_zoo::weights::hash::sha256;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, SCHEMA_VERSION, STATE, SUM};

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
    pub(super) fn check(&self, found: &Self, path: &Path) -> Result<(), CheckpointError> {
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

/// Reads the state alone. Its checksum is looked at first, then the version: what else another one holds is not for this
/// program to say.
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
    if found != SCHEMA_VERSION {
        return Err(CheckpointError::Version { path: path.clone(), found });
    }
    if sum.is_none() {
        return Err(damaged(format!("{SUM} is not beside it")));
    }
    serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
}

/// What is wrong with bytes whose SHA-256 should be `expected`.
pub(super) fn compare(bytes: &[u8], expected: &str) -> Result<(), String> {
    let found = sha256(bytes);
    if found == expected { Ok(()) } else { Err(format!("its SHA-256 is {found}, {expected} was written")) }
}
