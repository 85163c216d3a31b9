//! Why a method cannot explain.

use explainer_zoo::adapter::NotSquare;
use explainer_zoo::backbone::BackboneError;

/// What is wrong with a method's name, its parameter, or what it is to look at.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// No method of this name.
    #[error("unknown attribution method `{name}`; known are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Every method, with the form of its parameter.
        known: Vec<String>,
    },
    /// The parameter behind the `@` makes no sense.
    #[error("attribution method `{name}`: found `{found}` behind the @, expected {expected}")]
    Parameter {
        /// The method, without its parameter.
        name: String,
        /// What was given.
        found: String,
        /// What makes sense.
        expected: String,
    },
    /// The layer cannot be had.
    #[error(transparent)]
    Layer(#[from] BackboneError),
    /// A transformer's patches do not tile the images.
    #[error(transparent)]
    NotSquare(#[from] NotSquare),
    /// The classifier has no layer to tap.
    #[error(
        "{method} weighs the feature maps of a layer, but backbone {backbone} has none to tap; choose another method"
    )]
    NoLayer {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// The engine did not show the layer that was asked for.
    #[error("backbone {backbone} does not show its layer {layer}; choose another method")]
    Hidden {
        /// The backbone.
        backbone: String,
        /// The layer.
        layer: String,
    },
    /// Nothing can be put in the layer's place.
    #[error(
        "{method} puts features in the place of a layer's, which backbone {backbone} cannot; write the TorchScript with \
         model-zoo/scripts/export_torchscript.py, or choose a method that only looks, such as score-cam or rise"
    )]
    Fixed {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// The method looks at attention, and there is none.
    #[error(
        "{method} looks at the tokens and the attention of a vision transformer, which backbone {backbone} does not show; \
         choose a method that explains any classifier, such as grad-cam or rise"
    )]
    NoAttention {
        /// The method.
        method: &'static str,
        /// The backbone.
        backbone: String,
    },
    /// Images and classes do not belong together.
    #[error("{found} classes to explain, expected {expected}, one an image")]
    Classes {
        /// Classes given.
        found: usize,
        /// Images given.
        expected: usize,
    },
    /// A class beyond the classifier's.
    #[error("there is no class {class} to explain: the classifier has {classes}, 0 to {}", classes.saturating_sub(1))]
    Class {
        /// What was asked for.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Masks of another size than the images.
    #[error("the masks are {found:?}, expected [N, 1, {}, {}] with N at least 1", expected[0], expected[1])]
    Masks {
        /// Their shape.
        found: [usize; 4],
        /// Rows and columns of the images.
        expected: [usize; 2],
    },
}
