//! Why images cannot be explained.

use crate::adapter::AdapterError;
use crate::artifact::ArtifactError;
use crate::auxiliary::AuxiliaryError;
use crate::backbone::BackboneError;
use crate::device::DeviceError;
use crate::explainer::Method;
use crate::explainer::bee::BeeError;
use crate::feature_extractor::FeatureError;
use crate::image::ImageError;
use crate::path_integral::PathLayerError;

use super::heat_map::HeatMapError;

/// Why an explainer cannot be opened, or images cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The folder holds no valid explainer, or its backbone is another one.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The weights of the backbone, or of the second classifier, are not where the artifact says.
    #[error(
        "cannot get the weights of {backbone} from {weights}: {source}; if they have moved, say where with {option}"
    )]
    Weights {
        /// The backbone.
        backbone: String,
        /// The place that the artifact names.
        weights: String,
        /// What is wrong with it.
        source: BackboneError,
        /// The option of the command line that says where they are.
        option: &'static str,
    },
    /// A place was given for the weights of an auxiliary, but the explainer has none.
    #[error("--auxiliary-weights: {method} explainers have no auxiliary classifier; leave it out")]
    NoAuxiliary {
        /// The explainer's method.
        method: Method,
    },
    /// A place was given for the weights of BEE's context, but the context is the classifier itself.
    #[error("--context-weights: this explainer takes its context from the classifier itself; leave it out")]
    NoContext,
    /// The auxiliary does not fit the explainer's images or taps.
    #[error(transparent)]
    Auxiliary(#[from] AuxiliaryError),
    /// The backbone cannot be loaded, or could not compute.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A tap cannot become a map at the artifact's image size.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The device is not available.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// BEE has no such mixture, or cannot draw.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// A path of BEE's cannot start where the artifact says.
    #[error(transparent)]
    Site(#[from] PathLayerError),
    /// The photograph cannot be cropped.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The maps have no values.
    #[error(transparent)]
    Map(#[from] HeatMapError),
    /// A class index beyond the classifier's classes.
    #[error("there is no class {class}; the classifier has {classes}, 0 to {last}", last = classes.saturating_sub(1))]
    NoClass {
        /// The class that was requested.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Lists of classes that do not fit the images.
    #[error(
        "found lists of {lengths:?} classes to explain for {images} images, expected one list per image, all equally long"
    )]
    Targets {
        /// Lengths of the lists.
        lengths: Vec<usize>,
        /// Number of images.
        images: usize,
    },
    /// No class was requested, so that there is no map.
    #[error("no class to explain was requested; expected at least one")]
    NoMap,
    /// The method's own reason.
    #[error(transparent)]
    Method(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl ExplainError {
    /// The error of a method.
    pub fn method(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Method(Box::new(error))
    }
}

impl From<FeatureError> for ExplainError {
    fn from(error: FeatureError) -> Self {
        match error {
            FeatureError::Backbone(error) => error.into(),
            FeatureError::Adapter(error) => error.into(),
        }
    }
}
