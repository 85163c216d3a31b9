//! Errors of attribution methods.

use explainer_zoo::adapter::AdapterError;
use explainer_zoo::backbone::BackboneError;
use explainer_zoo::spelling::did_you_mean;

/// Why a method cannot be built, or cannot explain.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// No method of this name.
    #[error(
        "unknown attribution method `{name}`; known are {}{}",
        known.join(", "), did_you_mean(name, known.iter().map(String::as_str))
    )]
    Unknown {
        /// The name given.
        name: String,
        /// Every method, with the form of its parameter.
        known: Vec<String>,
    },
    /// The parameter behind the `@` is not one of the method's.
    #[error("attribution method `{name}`: found `{found}` behind the @, expected {expected}")]
    Parameter {
        /// The method, without its parameter.
        name: String,
        /// The parameter given.
        found: String,
        /// The parameters there are.
        expected: String,
    },
    /// The backbone has no such layer.
    #[error(transparent)]
    Layer(#[from] BackboneError),
    /// A transformer's patches do not tile the images.
    #[error(transparent)]
    NotSquare(#[from] AdapterError),
    /// The classifier has no layer to tap.
    #[error("{method} reads the feature maps of a layer, but backbone {backbone} has no taps; choose another method")]
    NoLayer {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// The backbone did not return the layer's feature maps.
    #[error("backbone {backbone} did not return the feature maps of its layer {layer}; choose another method")]
    Hidden {
        /// The backbone.
        backbone: String,
        /// The layer.
        layer: String,
    },
    /// The layer's feature maps cannot be replaced.
    #[error(
        "{method} replaces the feature maps of a layer, which backbone {backbone} cannot; write the TorchScript with \
         model-zoo/scripts/export_torchscript.py, or choose a method that only reads them, such as score-cam or rise"
    )]
    Fixed {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// The method needs a vision transformer.
    #[error(
        "{method} needs the tokens or the attention of a vision transformer, which backbone {backbone} does not have; \
         choose a method for any classifier, such as grad-cam or rise"
    )]
    NoAttention {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// The number of classes is not that of the images.
    #[error("found {found} target classes, expected {expected}: one for each image")]
    Classes {
        /// Classes given.
        found: usize,
        /// Images given.
        expected: usize,
    },
    /// A target class that the classifier does not have.
    #[error("there is no class {class}: the classifier has {classes}, 0 to {}", classes.saturating_sub(1))]
    Class {
        /// The target class.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The masks do not have the size of the images.
    #[error("the masks are {found:?}, expected [N, 1, {}, {}] with N at least 1", expected[0], expected[1])]
    Masks {
        /// Their shape.
        found: [usize; 4],
        /// Rows and columns of the images.
        expected: [usize; 2],
    },
}
