//! Why a checkpoint cannot be written or read.

use std::io;
use std::path::PathBuf;

use super::SCHEMA_VERSION;

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

    pub(super) fn write(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path, source }
    }
}

/// How as many images as before can still be others.
fn unlike(before: usize, now: usize) -> &'static str {
    if before == now { ", with other names or in another order" } else { "" }
}
