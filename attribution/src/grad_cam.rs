//! Grad-CAM (Selvaraju et al., 2017).

use burn::tensor::Tensor;

use super::layer::{Layer, activation_map, spatial_mean};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;

/// ReLU(sum_k w_k A_k), w_k the mean over positions of dy/dA_k, y the class's logit (equations 1 and 2).
///
/// Two forward passes and a backward one.
#[derive(Clone, Debug)]
pub struct GradCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for GradCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let gradient = self.layer.gradient(backbone, &seen, classes);
        Ok(activation_map(seen.map, spatial_mean(gradient)))
    }
}
