//! LayerCAM.

use burn::tensor::{Tensor, activation::relu};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

use crate::layer::Layer;
use crate::method::Built;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "layer-cam",
    title: "LayerCAM",
    family: Family::Cam,
    paper: "Jiang et al., 2021",
    access: Access::ReplaceableTaps,
    passes: "2 forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(LayerCam { layer: context.layer(&INFO)? }))
}

/// LayerCAM (Jiang et al., 2021, equations 7 to 9): ReLU(sum_k ReLU(g_kij) A_kij), g = dy/dA. Every position has a weight
/// of its own.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. Two forward passes and one backward pass an image.
#[derive(Clone, Debug)]
pub struct LayerCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
}

impl AttributionMethod for LayerCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let gradient = self.layer.gradient(backbone, &output, classes);
        Ok(min_max(relu((relu(gradient) * output.map).sum_dim(1))))
    }
}
