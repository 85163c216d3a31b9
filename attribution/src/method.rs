//! What a method of attribution has to provide.

use std::fmt::Debug;

use burn::tensor::Tensor;
use explainer_zoo::backbone::{Backbone, CountedBackbone, Passes};
use serde::Serialize;

use crate::AttributionError;

/// A method that explains one image at a time, without training.
pub trait AttributionMethod: Debug + Send + Sync {
    /// Heat maps: normalised images `[B,3,H,W]` and the target class of each, below K, to maps `[B,1,h,w]` in 0..=1, at
    /// whatever resolution the method has. Larger values speak for the class. The map of an image does not depend on the
    /// other images of the batch.
    ///
    /// Call [`AttributionMethod::explain`] instead: it checks the classes first, and counts passes.
    ///
    /// # Errors
    /// [`AttributionError`] where the backbone does not have what the method needs.
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError>;

    /// The maps, and the passes through the backbone that they took.
    ///
    /// # Errors
    /// As [`AttributionMethod::maps`]; [`AttributionError::Classes`] unless there is one class for each image,
    /// [`AttributionError::Class`] for a class that the backbone does not have.
    fn explain(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Attribution, AttributionError> {
        let ([batch, ..], count) = (images.dims(), backbone.spec().classes);
        if classes.len() != batch {
            return Err(AttributionError::Classes { found: classes.len(), expected: batch });
        }
        if let Some(class) = classes.iter().find(|class| **class >= count) {
            return Err(AttributionError::Class { class: *class, classes: count });
        }
        let counted = CountedBackbone::new(backbone);
        let maps = self.maps(&counted, images, classes)?;
        Ok(Attribution { maps, passes: counted.passes() })
    }
}

/// A method built for a classifier.
pub(crate) type Built = Result<Box<dyn AttributionMethod>, AttributionError>;

/// The result of an [`AttributionMethod`].
#[derive(Clone, Debug)]
pub struct Attribution {
    /// `[B,1,h,w]` in 0..=1.
    pub maps: Tensor<4>,
    /// Passes for the whole batch, counted.
    pub passes: Passes,
}

/// What is known of a method without running it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MethodInfo {
    /// Name in configurations and on the command line.
    pub name: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Family.
    pub family: Family,
    /// Authors and year; empty for the trivial methods.
    pub paper: &'static str,
    /// What it needs of the classifier.
    pub access: Access,
    /// Forward and backward passes for one image. C: channels of the layer; n: the parameter.
    pub passes: &'static str,
    /// What the number behind the `@` counts, and its default.
    pub parameter: Option<(&'static str, usize)>,
}

impl MethodInfo {
    /// The name with the form of its parameter: `rise[@MASKS]`.
    pub fn form(&self) -> String {
        self.parameter.map_or(self.name.to_owned(), |(what, _)| format!("{}[@{what}]", self.name))
    }
}

/// How a method works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Gradients of the logit with respect to the image.
    Gradient,
    /// Class activation maps: weighted sums of a layer's feature maps.
    Cam,
    /// Scores of masked or blurred images.
    Perturbation,
    /// Attention and tokens of vision transformers.
    Transformer,
    /// Baselines that ignore the classifier, the image, or both.
    Trivial,
}

impl Family {
    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Gradient => "gradient",
            Self::Cam => "class activation map",
            Self::Perturbation => "perturbation",
            Self::Transformer => "transformer",
            Self::Trivial => "trivial",
        }
    }
}

/// What a method needs of the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing: no pass is made.
    Nothing,
    /// Its logits alone: a black box.
    Logits,
    /// The gradient of logits with respect to the image.
    Gradients,
    /// The feature map of a tap.
    Taps,
    /// The feature map of a tap, and the gradient with respect to the image.
    TapsAndGradients,
    /// Taps that can be replaced: gradients with respect to a feature map, or logits of another one.
    ReplaceableTaps,
    /// The attention of a vision transformer.
    Attention,
    /// The patch tokens of a vision transformer.
    Tokens,
}

impl Access {
    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Logits => "logits",
            Self::Gradients => "gradients",
            Self::Taps => "taps",
            Self::TapsAndGradients => "taps, gradients",
            Self::ReplaceableTaps => "taps, gradients at taps",
            Self::Attention => "attention",
            Self::Tokens => "patch tokens",
        }
    }
}
