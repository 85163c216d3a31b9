//! Why a metric cannot be had or cannot measure.

/// What is wrong with a metric's name, its parameter, or what it is to measure.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// No metric of this name.
    #[error("unknown metric `{name}`; known are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Every metric, with the form of its parameter.
        known: Vec<String>,
    },
    /// The parameter behind the `@` makes no sense.
    #[error("metric `{name}`: found `{found}` behind the @, expected {expected}")]
    Parameter {
        /// The metric, without its parameter.
        name: String,
        /// What was given.
        found: String,
        /// What makes sense.
        expected: String,
    },
    /// Images, logits, classes and maps do not belong together.
    #[error("cannot measure: {what} is {found}, expected {expected}")]
    Shape {
        /// What does not fit.
        what: &'static str,
        /// Its shape or number.
        found: String,
        /// What fits the rest.
        expected: String,
    },
    /// A class beyond the classifier's.
    #[error("image {image} is explained for class {class}, but the classifier has {classes}, 0 to {}", classes.saturating_sub(1))]
    Class {
        /// Its place in the batch.
        image: usize,
        /// What was asked for.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The system of equations of an imputation was not solved.
    #[error(
        "ROAD: the linear system of {pixels} removed pixels is not solved after {iterations} iterations; \
         does the image have values that are not finite?"
    )]
    Unsolved {
        /// Unknowns.
        pixels: usize,
        /// Iterations made.
        iterations: usize,
    },
    /// An explainer cannot be asked for further maps.
    #[error("cannot explain once more: {0}")]
    ExplainFn(String),
    /// An image cannot be compressed.
    #[error("cannot compress an image to measure its information: {0}")]
    Compress(String),
}
