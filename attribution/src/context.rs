//! What a method is built for.

use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;

use crate::{Access, AttributionError, Layer, MethodInfo};

/// Perturbed images in a batch by default: they fill a GPU, and take 20 MB as images of 224 pixels.
const BATCH_SIZE: usize = 32;

/// The classifier that a method is built for, and the settings that methods share.
#[derive(Clone, Copy, Debug)]
pub struct MethodContext<'a> {
    /// The classifier to explain.
    pub backbone: &'a dyn Backbone,
    /// The preprocessing of its images, with their side.
    pub preprocessing: &'a Preprocessing,
    /// The tap whose feature maps are read, by methods that read one; [`Layer::default_tap`] by default.
    pub layer: Option<&'a str>,
    /// Seed of the methods that draw random numbers.
    pub seed: u64,
    /// Perturbed images, or feature maps, in one call of the backbone: it bounds the memory of every method.
    pub batch_size: usize,
}

impl<'a> MethodContext<'a> {
    /// The classifier with its own preprocessing and its default layer.
    pub fn new(backbone: &'a dyn Backbone) -> Self {
        Self { backbone, preprocessing: &backbone.spec().preprocessing, layer: None, seed: 0, batch_size: BATCH_SIZE }
    }

    /// The layer that a method reads.
    ///
    /// # Errors
    /// [`AttributionError`] for a backbone without the layer, or without a layer that can be replaced if the method needs
    /// that.
    pub(crate) fn layer(&self, info: &MethodInfo) -> Result<Layer, AttributionError> {
        let backbone = || self.backbone.spec().name.clone();
        if info.access == Access::ReplaceableTaps && !self.backbone.can_replace_taps() {
            return Err(AttributionError::Fixed { method: info.name, backbone: backbone() });
        }
        let default = || Layer::default_tap(self.backbone).map(|tap| tap.name.as_str());
        let name = self.layer.or_else(default);
        let name = name.ok_or_else(|| AttributionError::NoLayer { method: info.name, backbone: backbone() })?;
        Layer::named(self.backbone, name, self.preprocessing.crop)
    }
}
