//! Opti-CAM.

use burn::tensor::{Tensor, activation::softmax};
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

use crate::adam::Adam;
use crate::layer::Layer;
use crate::method::Built;
use crate::tensors::indices;
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "opti-cam",
    title: "Opti-CAM",
    family: Family::Cam,
    paper: "Zhang et al., 2024",
    access: Access::TapsAndGradients,
    passes: "1 + n forward, n backward",
    parameter: Some(("STEPS", 50)),
};

pub(crate) fn build(context: &MethodContext<'_>, steps: usize) -> Built {
    Ok(Box::new(OptiCam { layer: context.layer(&INFO)?, steps, learning_rate: 0.1 }))
}

/// Opti-CAM (Zhang et al., 2024, equations 12 to 14): S = sum_k softmax(u)_k A_k, where Adam maximises over u the class's logit
/// of the masked image x * N(S). N(S) is S, resized to the image (bilinear) and min-max normalised; u starts at zero.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. 1 + n forward passes and n backward passes an image, n steps.
#[derive(Clone, Debug)]
pub struct OptiCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
    /// n, Adam's steps.
    pub steps: usize,
    /// Adam's learning rate; the paper's is 0.1.
    pub learning_rate: f32,
}

impl AttributionMethod for OptiCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let [_, _, height, width] = images.dims();
        let [batch, channels, rows, columns] = output.map.dims();
        let flat = output.map.reshape([batch, channels, rows * columns]);
        let combined = |u: Tensor<2>| {
            let weights = softmax(u, 1).unsqueeze_dim::<3>(1);
            weights.matmul(flat.clone()).reshape([batch, 1, rows, columns])
        };
        let cotangent = one_hot(indices(classes, &images.device()));
        let mut u = Tensor::<2>::zeros([batch, channels], &images.device());
        let mut adam = Adam::new(self.learning_rate);
        for _ in 0..self.steps {
            let leaf = u.clone().autodiff().require_grad();
            let mask = min_max(resize(combined(leaf.clone()), [height, width]));
            let masked = images.clone() * mask.clone().without_autodiff();
            let Tap::Map(gradient) = backbone.vjp(masked, &cotangent).gradient else { break };
            // The gradient with respect to the mask, then that with respect to u.
            let to_mask = (gradient * images.clone()).sum_dim(1);
            let gradients = (mask * to_mask).sum().backward();
            let Some(to_u) = leaf.grad(&gradients) else { break };
            u = adam.step(u, -to_u.without_autodiff());
        }
        Ok(min_max(combined(u)))
    }
}
