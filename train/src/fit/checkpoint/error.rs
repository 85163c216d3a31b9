//! Why a checkpoint cannot be written or read.

use std::io;
use std::path::PathBuf;

use super::{OLDEST_VERSION, SCHEMA_VERSION};

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read.
    #[error("{}: cannot read the checkpoint: {source}; give a folder step-..., or --resume auto", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "{}: cannot write the checkpoint: {source}; earlier checkpoints are untouched: free space there, check the \
         permissions, and resume with --resume auto",
        path.display()
    )]
    Write {
        /// File or folder, under its final name.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It has another format.
    #[error(
        "{}: the checkpoint has format {found}, this program reads formats {} to {}; resume with the version of this program \
         that wrote it, or choose another --output",
        path.display(),
        OLDEST_VERSION,
        SCHEMA_VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// A file is not as it was written.
    #[error("{}: the checkpoint is damaged: {reason}; take an earlier one, or --resume auto", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs to another run.
    #[error(
        "{}: the checkpoint is of a run with other settings: {}; resume with the original settings, or choose another \
         --output",
        path.display(),
        first(differences)
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// Each key that differs, with both values.
        differences: Vec<String>,
    },
    /// The training images are no longer those of the run.
    #[error(
        "{}: the checkpoint is of a run on other training images: there were {before}, now there are {now}{}; restore \
         the original data.train, or choose another --output",
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
    /// Whether the checkpoint may be undamaged, but not for this run.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::OtherRun { .. } | Self::OtherImages { .. })
    }

    pub(super) fn write(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path, source }
    }
}

/// How the images can differ when their number is the same.
fn unlike(before: usize, now: usize) -> &'static str {
    if before == now { ", with other names or in another order" } else { "" }
}

/// The first few of the differences.
fn first(differences: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match differences.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
