//! FD-CAM (Li et al., 2022).

use burn::tensor::Tensor;

use super::layer::{Layer, activation_map, spatial_mean};
use super::tensors::{column, parts, stretch};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;

/// ReLU(sum_k w_k A_k) with w_k = exp(s_k) g_k - 1/2: g is Grad-CAM's weights and s the scores of groups of channels, both
/// stretched to 0..1 over the channels.
///
/// The group of channel k are the channels whose maps are most alike to A_k: those whose cosine to it is above the
/// `quantile` of all cosines to it. Its score is y_on + y - y_off, with the class's logit y, that where only the group is
/// left on, and that where only the group is switched off.
///
/// 2 + 2 C forward passes and a backward one, C the layer's channels.
#[derive(Clone, Debug)]
pub struct FdCam {
    /// Whose feature maps are weighted.
    pub layer: Layer,
    /// Share of the channels that are outside a group, in 0..1; the paper's is 0.95.
    pub quantile: f64,
    /// Feature maps with switched channels in memory at a time.
    pub per_call: usize,
}

impl AttributionMethod for FdCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let seen = self.layer.look(backbone, images)?;
        let slopes = stretch(spatial_mean(self.layer.gradient(backbone, &seen, classes)));
        let [_, channels, ..] = seen.map.dims();
        let mut scores = Vec::with_capacity(classes.len());
        for (image, class) in classes.iter().enumerate() {
            let one = seen.one(image);
            let groups = self.groups(&one.map);
            let score = |switched: Tensor<2>| {
                let [rows, _] = switched.dims();
                let maps = one.map.clone() * switched.reshape([rows, channels, 1, 1]);
                column(self.layer.logits(backbone, &one, maps), *class)
            };
            let effects = parts(channels, self.per_call).map(|part| {
                let on = groups.clone().narrow(0, part.start, part.len());
                let off = on.clone().neg().add_scalar(1.0);
                // y is the same for all channels: stretching takes it away again.
                score(on) - score(off)
            });
            scores.push(Tensor::cat(effects.collect(), 0).unsqueeze::<2>());
        }
        let scores = stretch(Tensor::cat(scores, 0));
        Ok(activation_map(seen.map, scores.exp() * slopes - 0.5))
    }
}

impl FdCam {
    /// Row k is 1 at the channels of k's group and 0 elsewhere, `[C,C]`, for maps `[1,C,h,w]`.
    fn groups(&self, map: &Tensor<4>) -> Tensor<2> {
        let [_, channels, height, width] = map.dims();
        let flat = map.clone().reshape([channels, height * width]);
        let norm = flat.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-8);
        let flat = flat / norm;
        let cosines = flat.clone().matmul(flat.transpose());
        let place = ((channels as f64 * self.quantile) as usize).min(channels.saturating_sub(1));
        let threshold = cosines.clone().sort(1).narrow(1, place, 1);
        cosines.greater(threshold.expand([channels, channels])).float()
    }
}
