//! What the first process of a run has, for all of them: checkpoints and the head's weights.

use std::path::PathBuf;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use burn::train::Learner;

use super::FitError;
use super::checkpoint::{Checkpoint, State};
use super::trainee::Trainee;
use crate::distributed::ProcessGroup;

/// The checkpoint that rank 0 has `found`.
///
/// # Errors
/// [`FitError::Communicator`], and [`FitError::Stopped`] for a record that cannot be passed on.
pub(super) fn checkpoint(found: Option<Checkpoint>, group: &ProcessGroup) -> Result<Option<Checkpoint>, FitError> {
    if group.is_single() {
        return Ok(found);
    }
    let known: Option<(PathBuf, State)> =
        group.broadcast(found.as_ref().map(|found| (found.path.clone(), found.state.clone())))?;
    let written = match found {
        None => Ok((Vec::new(), Vec::new())),
        Some(found) => found
            .head
            .into_bytes()
            .map_err(unsent)
            .and_then(|head| Ok((head.to_vec(), found.optimizer.into_bytes().map_err(unsent)?.to_vec()))),
    };
    let (head, optimizer) = group.all_ok(written)?;
    let Some((path, state)) = known else { return Ok(None) };
    let [head, optimizer] =
        [group.broadcast_bytes(head)?, group.broadcast_bytes(optimizer)?].map(Bytes::from_bytes_vec);
    let read = ModuleRecord::from_bytes(head).map_err(unsent).and_then(|head| {
        Ok(Checkpoint { head, optimizer: OptimizerRecord::from_bytes(optimizer).map_err(unsent)?, path, state })
    });
    group.all_ok(read).map(Some)
}

/// Gives every rank's head the weights and running statistics of rank 0's.
///
/// # Errors
/// As [`checkpoint`].
pub(super) fn weights(learner: &mut Learner<Trainee>, group: &ProcessGroup) -> Result<(), FitError> {
    if group.is_single() {
        return Ok(());
    }
    let written = match group.is_main() {
        true => learner.model().into_record().into_bytes().map(|bytes| bytes.to_vec()).map_err(unsent),
        false => Ok(Vec::new()),
    };
    let bytes = group.broadcast_bytes(group.all_ok(written)?)?;
    let record = group.all_ok(ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(unsent))?;
    learner.load_model(record);
    Ok(())
}

fn unsent(error: impl std::fmt::Display) -> FitError {
    FitError::Stopped(format!("the head cannot be passed on to the other ranks: {error}"))
}
