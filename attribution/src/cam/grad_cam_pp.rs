//! Grad-CAM++.

use burn::tensor::{Tensor, activation::relu};
use explainer_zoo::backbone::Backbone;

use crate::layer::{Layer, activation_map, spatial_mean};
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "grad-cam++",
    title: "Grad-CAM++",
    family: Family::Cam,
    paper: "Chattopadhay et al., 2018",
    access: Access::ReplaceableTaps,
    passes: "2 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(GradCamPlusPlus { layer: context.layer(&INFO)? }))
}

/// Grad-CAM++ (Chattopadhay et al., 2018, equations 5, 7 and 19): ReLU(sum_k w_k A_k) with
/// w_k = sum_ij alpha_kij ReLU(g_kij), g = dy/dA, and
///
/// alpha_kij = g^2 / (2 g^2 + g^3 sum_ab A_kab) = 1 / (2 + g_kij sum_ab A_kab) where g is positive.
///
/// The paper's score is exp(y), whose own factor cancels in the normalised map. The paper's A are outputs of a ReLU; a
/// negative sum of A counts as zero here, since alpha would have a pole.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. Two forward passes and one backward pass an image.
#[derive(Clone, Debug)]
pub struct GradCamPlusPlus {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for GradCamPlusPlus {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let positive = relu(self.layer.gradient(backbone, &output, classes));
        let [batch, channels, height, width] = positive.dims();
        // Sum over positions.
        let sum = relu(spatial_mean(output.map.clone())) * (height * width) as f32;
        let alpha = (positive.clone() * sum.reshape([batch, channels, 1, 1]) + 2.0).recip();
        // The mean instead of the sum: normalisation removes the common factor.
        Ok(activation_map(output.map, spatial_mean(alpha * positive)))
    }
}
