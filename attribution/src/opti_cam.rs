//! Opti-CAM (Zhang et al., 2024).

use burn::tensor::{Tensor, activation::softmax};

use super::adam::Adam;
use super::layer::Layer;
use super::tensors::indices;
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

/// S = sum_k softmax(u)_k A_k, where u makes the class's logit of x * n(S) as large as Adam gets it, n(S) being S resized to
/// the image (bilinear) and stretched to 0..1 (equations 12 to 14). u begins at zero.
///
/// 1 + n forward and n backward passes.
#[derive(Clone, Debug)]
pub struct OptiCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
    /// n, Adam's steps.
    pub steps: usize,
    /// Adam's learning rate; the paper's is 0.1.
    pub rate: f32,
}

impl AttributionMethod for OptiCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let [_, _, height, width] = images.dims();
        let [batch, channels, rows, columns] = seen.map.dims();
        let flat = seen.map.reshape([batch, channels, rows * columns]);
        let combined = |u: Tensor<2>| {
            let weights = softmax(u, 1).unsqueeze_dim::<3>(1);
            weights.matmul(flat.clone()).reshape([batch, 1, rows, columns])
        };
        let cotangent = one_hot(indices(classes, &images.device()));
        let mut u = Tensor::<2>::zeros([batch, channels], &images.device());
        let mut adam = Adam::new(self.rate);
        for _ in 0..self.steps {
            let leaf = u.clone().autodiff().require_grad();
            let mask = min_max(resize(combined(leaf.clone()), [height, width]));
            let masked = images.clone() * mask.clone().without_autodiff();
            let Tap::Map(gradient) = backbone.vjp(masked, &cotangent).gradient else { break };
            // Of the logits with respect to the mask.
            let slope = (gradient * images.clone()).sum_dim(1);
            let gradients = (mask * slope).sum().backward();
            let Some(uphill) = leaf.grad(&gradients) else { break };
            u = adam.step(u, -uphill.without_autodiff());
        }
        Ok(min_max(combined(u)))
    }
}
