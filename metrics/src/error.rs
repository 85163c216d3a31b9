//! Errors of metrics.

use explainer_zoo::spelling::did_you_mean;

/// A wrong name or parameter of a metric, or input that cannot be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// No metric has this name.
    #[error(
        "unknown metric `{name}`; known are {}{}",
        known.join(", "), did_you_mean(name, known.iter().map(String::as_str))
    )]
    Unknown {
        /// The name given.
        name: String,
        /// Every metric, with the form of its parameter.
        known: Vec<String>,
    },
    /// The parameter behind the `@` is invalid.
    #[error("metric `{name}`: found `{found}` behind the @, expected {expected}")]
    Parameter {
        /// The metric, without its parameter.
        name: String,
        /// The parameter given.
        found: String,
        /// What is valid.
        expected: String,
    },
    /// The shapes or numbers of images, logits, classes, maps and annotations do not match.
    #[error("cannot measure: {what} is {found}, expected {expected}")]
    Shape {
        /// What does not match.
        what: &'static str,
        /// Its shape or number.
        found: String,
        /// The shape or number that matches.
        expected: String,
    },
    /// A target class that the classifier does not have.
    #[error("image {image} is explained for class {class}, but the classifier has {classes}, 0 to {}", classes.saturating_sub(1))]
    Class {
        /// Index of the image in the batch.
        image: usize,
        /// The target class given.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The linear system of ROAD's imputation did not converge.
    #[error(
        "ROAD: the linear system of {pixels} removed pixels has not converged after {iterations} iterations; \
         check that the image's values are finite"
    )]
    Unsolved {
        /// Number of unknowns.
        pixels: usize,
        /// Number of iterations.
        iterations: usize,
    },
    /// The explainer cannot compute further maps.
    #[error("cannot compute a further heat map: {0}")]
    Explain(String),
    /// An image cannot be encoded as WebP.
    #[error("cannot compress an image to measure its information: {0}")]
    Compress(String),
}
