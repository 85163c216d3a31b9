//! Grad-CAM.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;

use crate::layer::{Layer, activation_map, spatial_mean};
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "grad-cam",
    title: "Grad-CAM",
    family: Family::Cam,
    paper: "Selvaraju et al., 2017",
    access: Access::ReplaceableTaps,
    passes: "2 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(GradCam { layer: context.layer(&INFO)? }))
}

/// Grad-CAM (Selvaraju et al., 2017, equations 1 and 2): ReLU(sum_k w_k A_k), w_k the mean of dy/dA_k over positions.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. Two forward passes and one backward pass an image.
#[derive(Clone, Debug)]
pub struct GradCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for GradCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let gradient = self.layer.gradient(backbone, &output, classes);
        Ok(activation_map(output.map, spatial_mean(gradient)))
    }
}
