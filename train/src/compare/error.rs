//! Why explainers cannot be compared.

use std::io;
use std::path::PathBuf;

use explainer_zoo::backbone::BackboneError;
use explainer_zoo::classes::ClassesError;
use explainer_zoo::device::DeviceError;
use explainer_zoo::explain::ExplainError;

use crate::config::ConfigError;
use crate::data::DataError;
use crate::evaluation::EvaluationError;
use crate::fit::FitError;
use crate::report::ReportError;
use explainer_metrics::{MetricError, ResultsError};

/// Why a comparison fails.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Trained explainers that are missing; all of them.
    #[error("trained explainers are missing:\n  {}", missing.join("\n  "))]
    Missing {
        /// One line each: which, and how to train it.
        missing: Vec<String>,
    },
    /// An explainer of another classifier than the others'.
    #[error(
        "{name} explains {found}, but {first} {expected}; only explainers of one classifier, with the same preprocessing, \
         can be compared"
    )]
    Classifier {
        /// The explainer.
        name: String,
        /// Its classifier.
        found: String,
        /// Where the comparison's classifier comes from.
        first: String,
        /// That classifier.
        expected: String,
    },
    /// An explainer cannot be opened, or a method does not support the classifier.
    #[error("{name}: {source}")]
    Explainer {
        /// The explainer.
        name: String,
        /// Why.
        source: ExplainError,
    },
    /// An image cannot be explained.
    #[error(transparent)]
    Explain(ExplainError),
    /// Keys of an explainer that do not fit its kind.
    #[error("{name}: {problem}")]
    Keys {
        /// The explainer.
        name: String,
        /// The keys, and what to do.
        problem: String,
    },
    /// The training of an explainer failed.
    #[error("{name}: training it failed: {source}")]
    Train {
        /// The explainer.
        name: String,
        /// Why.
        source: FitError,
    },
    /// None of the images could be read.
    #[error("none of the {images} images could be read; the first: {first}")]
    Unreadable {
        /// Number of images.
        images: usize,
        /// The reason for the first.
        first: String,
    },
    /// The output folder, or a file in it, cannot be used.
    #[error("{}: {source}; check that the folder exists, is writable and has space left", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A run's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The classifier.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// Its classes' names.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// The images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Values that cannot be compared.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// A file of the report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A result cannot be written.
    #[error(transparent)]
    Write(#[from] explainer_zoo::files::WriteError),
}

impl From<EvaluationError> for CompareError {
    fn from(error: EvaluationError) -> Self {
        match error {
            EvaluationError::Explain(source) => Self::Explain(source),
            EvaluationError::Metric(error) => error.into(),
            EvaluationError::Data(error) => error.into(),
        }
    }
}

impl CompareError {
    /// The error of one explainer, with its name.
    pub(super) fn of(self, name: &str) -> Self {
        match self {
            Self::Explain(source) => Self::Explainer { name: name.into(), source },
            other => other,
        }
    }
}
