//! Attention rollout (Abnar and Zuidema, 2020).

use burn::tensor::Tensor;

use super::tokens::{Patches, class_row, mean_of_heads, unit};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::maps::min_max;

/// The row of the class token in A_L ... A_1, A_l = (W_l + I) / 2, W_l the attention of block l, the mean of its heads
/// (equation 1 and section 3). The class to explain plays no role.
///
/// One forward pass.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Where the patches are.
    pub patches: Patches,
}

impl AttributionMethod for Rollout {
    fn maps(&self, backbone: &dyn Backbone, images: &Tensor<4>, _: &[usize]) -> Result<Tensor<4>, AttributionError> {
        self.patches.explain(backbone, images, None, |blocks| {
            let mixed = |weights| {
                let mean = mean_of_heads(weights);
                (mean.clone() + unit(&mean)) / 2.0
            };
            let product =
                blocks.into_iter().map(|block| mixed(block.weights)).reduce(|before, block| block.matmul(before));
            let empty = || Tensor::zeros([images.dims()[0], 1, 1, 1], &images.device());
            product.map_or_else(empty, |product| min_max(self.patches.map(class_row(product))))
        })
    }
}
