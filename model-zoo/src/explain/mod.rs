//! One interface for whatever explains an image classifier: learned heads ([`Explainer`]), BEE, and methods without
//! training.
//!
//! ```no_run
#![doc = include_str!("../../examples/explain.rs")]
//! ```
//!
//! An implementation of [`Explain`] provides heat maps of given classes ([`Explain::maps`]); everything else has a
//! default. Metrics, comparisons and reports take any `&dyn Explain`.

mod batch;
mod error;
mod explainer;
mod heat_map;
mod targets;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use crate::backbone::{Backbone, check_failures};
use crate::image::{Pixels, Preprocessing};

pub use batch::{Cost, ExplainBatch, Explanation, Explanations};
pub use error::ExplainError;
pub use explainer::{Explainer, ExplainerBuilder, load};
pub use heat_map::{HeatMap, HeatMapError};
pub use targets::Targets;

/// Something that explains an image classifier.
///
/// Passes through the classifiers are counted where they are made
/// ([`CountedBackbone`](crate::backbone::CountedBackbone)), never declared.
pub trait Explain: Debug + Send + Sync {
    /// Its name in tables and messages.
    fn name(&self) -> String;

    /// The explained classifier.
    fn backbone(&self) -> &Arc<dyn Backbone>;

    /// How images become the classifier's input.
    fn preprocessing(&self) -> &Preprocessing;

    /// Where tensors live.
    fn device(&self) -> Device;

    /// Heat maps `[B,k,h,w]` in 0..=1 of `k` classes of each of `B` images, and their cost. `classes` holds `B` lists of
    /// `k` class indices each.
    ///
    /// # Errors
    /// [`ExplainError`] for classes that the classifier does not have, for a classifier that could not compute, and for
    /// images that the method cannot explain.
    fn maps(&self, batch: &ExplainBatch, classes: &[Vec<usize>]) -> Result<(Tensor<4>, Cost), ExplainError>;

    /// Heat maps of the `targets` of each image, with the classifier's logits.
    ///
    /// By default one forward pass chooses the classes, which the cost does not include: for a method without training
    /// the class is given. An explainer that needs this pass for its maps overrides this method and counts it.
    ///
    /// # Errors
    /// As [`Explain::maps`].
    fn explain_batch(&self, batch: &ExplainBatch, targets: Targets<'_>) -> Result<Explanations, ExplainError> {
        let logits = self.backbone().forward(batch.images.clone(), &[]).logits;
        check_failures([self.backbone()])?;
        Explanations::of(batch, logits, targets, |classes| self.maps(batch, classes))
    }

    /// The same explainer of another classifier with the same architecture, such as one with randomised weights (the
    /// sanity check of Adebayo et al., 2018). `None` if the explainer is tied to its classifier.
    fn with_backbone(&self, backbone: Arc<dyn Backbone>) -> Option<Arc<dyn Explain>> {
        let _ = backbone;
        None
    }

    /// Whether metrics may request maps of changed images or of a changed classifier (sensitivity, infidelity,
    /// randomisation). Not for BEE: two of its maps differ by their random draws as well.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Names of the classes by index, where known.
    fn class_names(&self) -> Option<&[String]> {
        None
    }

    /// Names of the values in [`Explanation::details`], such as BEE's score and baseline; empty for most.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many images to explain at a time; 1 where each image takes long.
    fn batch_size(&self) -> usize {
        16
    }

    /// Explains one photograph: the heat map of its predicted class.
    ///
    /// # Errors
    /// As [`Explain::maps`]; [`ExplainError::Image`] for an image that the preprocessing cannot crop.
    fn explain(&self, image: &RgbImage) -> Result<Explanation, ExplainError> {
        self.explain_targets(image, Targets::Top(1))?.pop().ok_or(ExplainError::NoMap)
    }

    /// Explains one photograph: the heat maps of its `targets`, in their order.
    ///
    /// # Errors
    /// As [`Explain::explain`].
    fn explain_targets(&self, image: &RgbImage, targets: Targets<'_>) -> Result<Vec<Explanation>, ExplainError> {
        let pixels = self.preprocessing().centre(image)?;
        let pixels = Pixels::to_tensor(&[pixels], &self.device())?;
        let explained = self.explain_batch(&ExplainBatch::from_pixels(pixels, self.preprocessing()), targets)?;
        Ok(explained.per_image()?.pop().unwrap_or_default())
    }
}

/// Waits until a device has computed `maps`: it runs asynchronously, and the time of an explanation is measured.
#[must_use]
pub fn computed(maps: Tensor<4>) -> Tensor<4> {
    let device = maps.device();
    Tensor::from_data(maps.into_data(), &device)
}
