//! Grad-CAM++ (Chattopadhay et al., 2018).

use burn::tensor::{Tensor, activation::relu};

use super::layer::{Layer, activation_map, spatial_mean};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;

/// ReLU(sum_k w_k A_k) with w_k = sum_ij alpha_kij ReLU(g_kij), g = dy/dA and
///
/// alpha_kij = g^2 / (2 g^2 + g^3 sum_ab A_kab) = 1 / (2 + g_kij sum_ab A_kab)
///
/// where g is positive, and elsewhere of no consequence (equations 5, 7 and 19, for the score exp(y), whose own factor
/// cancels when the map is stretched). The paper's A are behind a ReLU: in a layer that is not, a negative sum counts as
/// zero, else alpha would have a pole.
///
/// Two forward passes and a backward one.
#[derive(Clone, Debug)]
pub struct GradCamPlusPlus {
    /// Whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for GradCamPlusPlus {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let rising = relu(self.layer.gradient(backbone, &seen, classes));
        let [batch, channels, height, width] = rising.dims();
        // The mean times the number of positions.
        let sum = relu(spatial_mean(seen.map.clone())) * (height * width) as f32;
        let alpha = (rising.clone() * sum.reshape([batch, channels, 1, 1]) + 2.0).recip();
        // The mean for the sum: a factor that all channels share.
        Ok(activation_map(seen.map, spatial_mean(alpha * rising)))
    }
}
