//! LayerCAM (Jiang et al., 2021).

use burn::tensor::{Tensor, activation::relu};

use super::layer::Layer;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

/// ReLU(sum_k ReLU(g_kij) A_kij), g = dy/dA: every position has a weight of its own (equations 7 to 9).
///
/// Two forward passes and a backward one.
#[derive(Clone, Debug)]
pub struct LayerCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for LayerCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let gradient = self.layer.gradient(backbone, &seen, classes);
        Ok(min_max(relu((relu(gradient) * seen.map).sum_dim(1))))
    }
}
