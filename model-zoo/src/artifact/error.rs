//! Errors of artifacts.

use std::io;
use std::path::{Path, PathBuf};

use crate::explainer::bee::BeeError;
use crate::explainer::{ShapeError, SizeError};
use crate::weights::WeightsError;

/// Why an artifact cannot be written, read or used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The path does not name an artifact.
    #[error(
        "{path}: found {found}, expected the folder of an explainer (config.json, model.safetensors), \
         such as artifact/ in the output of a run"
    )]
    Missing {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}; check free space and permissions, or choose another output folder")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// `config.json` is invalid.
    #[error("{path} is not an explainer's configuration: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason, with key or line and column.
        reason: String,
    },
    /// The artifact has an unknown version of the format.
    #[error(
        "{path} has schema_version {found}, this is explainer-zoo {} which reads {supported}; \
         use the version of this software that wrote it, or a newer one",
        env!("CARGO_PKG_VERSION")
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version that this crate reads.
        supported: u64,
    },
    /// The artifact holds no head.
    #[error(
        "{path} is of a BEE explainer, which draws several maps an image and keeps the best for a metric: \
         use `explain` with --metric, or `inspect`"
    )]
    OtherMethod {
        /// The file.
        path: PathBuf,
    },
    /// The mixtures of a BEE explainer cannot be read or written.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// A value of the configuration is out of range or contradicts another one.
    #[error("artifact configuration: {key} is {found}, expected {expected}")]
    Value {
        /// The key in `config.json`.
        key: &'static str,
        /// The value found.
        found: String,
        /// The expected value.
        expected: String,
    },
    /// The tensors cannot be read or are not those of the head that the configuration describes.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor holds invalid values.
    #[error(
        "tensor {tensor} of {origin} has {count} values that are {problem}; train it again from an earlier checkpoint"
    )]
    Tensor {
        /// The file, or another origin.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The number of invalid values.
        count: usize,
        /// The problem, such as `not finite`.
        problem: &'static str,
    },
    /// `model.safetensors` is not the file of `config.json`.
    #[error(
        "{path} has SHA-256 {found}, config.json expects {expected}: its writing was interrupted or the file was changed; \
         save the artifact again (resume the run), or delete model_sha256 from config.json to accept the file as it is"
    )]
    Hash {
        /// The file of tensors.
        path: PathBuf,
        /// Its SHA-256.
        found: String,
        /// The one in `config.json`.
        expected: String,
    },
    /// The explainer was trained on another backbone.
    #[error("the explainer was trained on another backbone:{}", list(.0))]
    Backbone(Vec<Difference>),
    /// The explainer was trained with another auxiliary.
    #[error("the explainer was trained with another auxiliary:{}", list(.0))]
    Auxiliary(Vec<Difference>),
    /// The mixtures of a BEE explainer were learned with another context.
    #[error("the explainer was trained with another context:{}", list(.0))]
    Context(Vec<Difference>),
    /// The head cannot read the taps.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A checkpoint to import has no attention head.
    #[error("{path} has no tensor {tensor} with any of the prefixes {prefixes}: it is no T-TAME or P-TAME checkpoint")]
    NoHead {
        /// The file.
        path: PathBuf,
        /// The missing tensor.
        tensor: &'static str,
        /// The prefixes tried.
        prefixes: String,
    },
}

impl From<SizeError> for ArtifactError {
    fn from(SizeError { key, found, expected }: SizeError) -> Self {
        Self::Value { key, found, expected }
    }
}

impl ArtifactError {
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(super) fn write(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }
}

/// A difference between a backbone and the one that the explainer was trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The property, such as `weights SHA-256` or `channels of tap layer2`.
    pub what: String,
    /// Its value in the backbone.
    pub found: String,
    /// The value that the explainer needs.
    pub expected: String,
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(|d| format!("\n  {}: found {}, expected {}", d.what, d.found, d.expected)).collect()
}
