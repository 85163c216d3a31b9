//! Grad-CAM (Selvaraju et al., 2017).

use burn::tensor::{Int, Tensor, activation::relu};

use super::path::one_hot;
use crate::adapter::Adapter;
use crate::backbone::{Backbone, TapId};
use crate::explainer::min_max;

/// Grad-CAM at a tap: ReLU(sum_k w_k F_k), w_k the mean over positions of d logit_class / d F_k (equations 1 and 2),
/// stretched to 0..1.
///
/// Normalised images `[B,3,H,W]` and a class each `[B]` to `[B,1,h,w]`. Costs two forward passes and a backward one.
pub fn grad_cam(
    backbone: &dyn Backbone,
    images: &Tensor<4>,
    class: &Tensor<1, Int>,
    tap: TapId,
    adapter: &Adapter,
) -> Tensor<4> {
    let mut seen = backbone.observe(images.clone(), &[tap]);
    let Some(feature) = seen.taps.pop() else {
        let [batch, ..] = images.dims();
        return Tensor::zeros([batch, 1, 1, 1], &images.device());
    };
    let answer = backbone.answer_at(images.clone(), tap, feature.clone(), &one_hot(class.clone()));
    let (feature, gradient) = (adapter.apply(feature), adapter.apply(answer.gradient));
    let [batch, channels, height, width] = feature.dims();
    let weight = gradient.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels, 1, 1]);
    min_max(relu((feature * weight).sum_dim(1)))
}
