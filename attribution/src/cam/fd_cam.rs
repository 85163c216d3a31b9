//! FD-CAM.

use burn::tensor::Tensor;
use explainer_zoo::backbone::Backbone;

use crate::layer::{Layer, activation_map, spatial_mean};
use crate::method::Built;
use crate::tensors::{chunks, class_scores, min_max_rows};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "fd-cam",
    title: "FD-CAM",
    family: Family::Cam,
    paper: "Li et al., 2022",
    access: Access::ReplaceableTaps,
    passes: "2 + 2 C forward, 1 backward",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Ok(Box::new(FdCam { layer: context.layer(&INFO)?, quantile: 0.95, batch_size: context.batch_size }))
}

/// FD-CAM (Li et al., 2022): ReLU(sum_k w_k A_k) with w_k = exp(s_k) g_k - 1/2. g are Grad-CAM's weights and s the scores of
/// groups of channels, both min-max normalised over channels.
///
/// The group of channel k are the channels most similar to A_k: those whose cosine similarity to it is above the `quantile`
/// of all similarities to it. Its score is y_on + y - y_off: the class's logit, that with the group alone switched on, and
/// that with the group alone switched off.
///
/// Maps `[B,1,h,w]` in 0..=1, the layer's resolution. 2 + 2 C forward passes and one backward pass an image, C channels.
#[derive(Clone, Debug)]
pub struct FdCam {
    /// The layer whose feature maps are weighted.
    pub layer: Layer,
    /// Share of the channels outside a group, in 0..=1; the paper's is 0.95.
    pub quantile: f64,
    /// Switched feature maps in one call of the backbone.
    pub batch_size: usize,
}

impl AttributionMethod for FdCam {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let gradients = min_max_rows(spatial_mean(self.layer.gradient(backbone, &output, classes)));
        let [_, channels, ..] = output.map.dims();
        let mut scores = Vec::with_capacity(classes.len());
        for (image, class) in classes.iter().enumerate() {
            let one = output.image(image);
            let groups = self.groups(&one.map);
            let score = |switched: Tensor<2>| {
                let [rows, _] = switched.dims();
                let maps = one.map.clone() * switched.reshape([rows, channels, 1, 1]);
                class_scores(self.layer.logits_at(backbone, &one, maps), *class)
            };
            let effects = chunks(channels, self.batch_size).map(|chunk| {
                let on = groups.clone().narrow(0, chunk.start, chunk.len());
                let off = on.clone().neg().add_scalar(1.0);
                // y is the same for all channels: normalisation removes it.
                score(on) - score(off)
            });
            scores.push(Tensor::cat(effects.collect(), 0).unsqueeze::<2>());
        }
        let scores = min_max_rows(Tensor::cat(scores, 0));
        Ok(activation_map(output.map, scores.exp() * gradients - 0.5))
    }
}

impl FdCam {
    /// The groups of maps `[1,C,h,w]`: `[C,C]`, row k is 1 at the channels of k's group and 0 elsewhere.
    fn groups(&self, map: &Tensor<4>) -> Tensor<2> {
        let [_, channels, height, width] = map.dims();
        let flat = map.clone().reshape([channels, height * width]);
        let norm = flat.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-8);
        let flat = flat / norm;
        let cosines = flat.clone().matmul(flat.transpose());
        let index = ((channels as f64 * self.quantile) as usize).min(channels.saturating_sub(1));
        let threshold = cosines.clone().sort(1).narrow(1, index, 1);
        cosines.greater(threshold.expand([channels, channels])).float()
    }
}
