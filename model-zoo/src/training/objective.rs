//! The TAME family's objective: cross-entropy of the masked image, area and smoothness of the maps.
//!
//! The classifier is not part of the head's graph, so the cross-entropy reaches the head as a given gradient: with
//! `d = vjp(objective.logit_gradient(..))`, the loss to call `backward` on is
//! `(masked * d).sum() + regulariser.loss`.

use burn::tensor::{Int, Tensor, TensorReadError};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{area, cross_entropy_gradient, smoothness};
use super::selection::Selection;
use crate::range::{not_negative, positive};

/// Weights of the loss `ce * CE + area * mean((M + 5e-4)^area_power) + smooth * S(M)`. Defaults: TAME and T-TAME.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Weight of the cross-entropy between the masked image's logits and the class predicted for the whole image.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub ce: f64,
    /// Weight of the area term, which makes maps small.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub area: f64,
    /// Exponent of the area term. Above 0; below 1 it favours maps that are near 0 or 1.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub area_power: f64,
    /// Weight of the smoothness term: squared differences of neighbouring cells, summed.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub smooth: f64,
    /// Weight, inside the smoothness term, of the map's four borders.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub border: f64,
    /// Which maps the area and smoothness terms look at.
    #[garde(skip)]
    pub selection: Selection,
}

impl Default for Objective {
    fn default() -> Self {
        Self { ce: 1.5, area: 2.0, area_power: 0.3, smooth: 0.01, border: 0.3, selection: Selection::Batch }
    }
}

impl Objective {
    /// TAME and T-TAME, every backbone: the default.
    pub fn ttame() -> Self {
        Self::default()
    }

    /// P-TAME explaining VGG-16.
    pub fn ptame_vgg16() -> Self {
        Self { ce: 0.07278, area: 0.977712, smooth: 1e-4, ..Self::ttame() }
    }

    /// P-TAME explaining ResNet-50.
    pub fn ptame_resnet50() -> Self {
        Self { ce: 0.161429, area: 0.838571, smooth: 0.0, ..Self::ttame() }
    }

    /// P-TAME explaining ViT-B/16.
    pub fn ptame_vit_b_16() -> Self {
        Self { ce: 0.131292, area: 0.838571, area_power: 0.5, smooth: 0.0, border: 0.0, selection: Selection::Batch }
    }

    /// P-TAME explaining ResNet-50 with MobileNetV3-small as the auxiliary classifier.
    pub fn ptame_mobilenet_v3_small() -> Self {
        Self { ce: 0.0510737, area: 0.945475, smooth: 0.003451, ..Self::ttame() }
    }

    /// P-TAME explaining ResNet-50 with MnasNet as the auxiliary classifier.
    pub fn ptame_mnasnet() -> Self {
        Self { ce: 0.166516, area: 0.833484, smooth: 0.0, ..Self::ttame() }
    }

    /// The part of the loss that depends on the maps alone. `maps` `[B,B,h,w]` in 0..=1, column `j` for the class
    /// predicted for image `j`; the selection is applied here.
    pub fn regulariser(&self, maps: Tensor<4>) -> Regulariser {
        self.regulariser_of(self.selection.select(maps))
    }

    /// As [`Objective::regulariser`], of maps `[B,k,h,w]` that are selected already.
    pub fn regulariser_of(&self, maps: Tensor<4>) -> Regulariser {
        let area = area(maps.clone(), self.area_power);
        let mut loss = area.clone().mul_scalar(self.area);
        let mut smooth = Tensor::zeros([1], &area.device());
        if self.smooth != 0.0 {
            smooth = smoothness(maps, self.border);
            loss = loss + smooth.clone().mul_scalar(self.smooth);
        }
        Regulariser { loss, area: area.inner(), smooth: smooth.inner() }
    }

    /// Gradient of the weighted cross-entropy with respect to the masked images' logits: what the backbone's pullback
    /// takes. `logits` `[b,K]` and `class` `[b]` may be a part of a batch of `batch` images.
    pub fn logit_gradient(&self, logits: Tensor<2>, class: Tensor<1, Int>, batch: usize) -> Tensor<2> {
        cross_entropy_gradient(logits, class, batch).mul_scalar(self.ce)
    }

    /// The named terms of one step, to be logged. `ce` `[1]` is the batch's mean cross-entropy.
    pub fn terms(&self, ce: Tensor<1>, regulariser: &Regulariser) -> LossTerms {
        let ce = ce.inner();
        let total = ce.clone().mul_scalar(self.ce) + regulariser.loss.clone().inner();
        LossTerms { total, ce, area: regulariser.area.clone(), smooth: regulariser.smooth.clone() }
    }
}

/// The loss terms that depend on the maps alone; each tensor is `[1]`.
#[derive(Clone, Debug)]
pub struct Regulariser {
    /// Weighted sum of both terms, differentiable in the maps.
    pub loss: Tensor<1>,
    /// Area, unweighted, without a graph.
    pub area: Tensor<1>,
    /// Smoothness, unweighted, without a graph; 0 where its weight is 0.
    pub smooth: Tensor<1>,
}

/// A step's loss and its terms on the device, each `[1]` and without a graph. [`LossTerms::read`] reads them.
#[derive(Clone, Debug)]
pub struct LossTerms {
    /// Weighted sum of the terms.
    pub total: Tensor<1>,
    /// Mean cross-entropy, unweighted.
    pub ce: Tensor<1>,
    /// Area, unweighted.
    pub area: Tensor<1>,
    /// Smoothness, unweighted.
    pub smooth: Tensor<1>,
}

/// The numbers of [`LossTerms`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossValues {
    /// Weighted sum of the terms.
    pub total: f32,
    /// Mean cross-entropy, unweighted.
    pub ce: f32,
    /// Area, unweighted.
    pub area: f32,
    /// Smoothness, unweighted.
    pub smooth: f32,
}

impl LossTerms {
    /// Brings the four numbers to the host in one transfer, waiting for the device.
    ///
    /// # Errors
    /// When the device failed to compute them.
    pub fn read(self) -> Result<LossValues, TensorReadError> {
        let terms = Tensor::cat(vec![self.total, self.ce, self.area, self.smooth], 0).try_into_vec_as::<f32>()?;
        Ok(LossValues { total: terms[0], ce: terms[1], area: terms[2], smooth: terms[3] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn wavy(shape: [usize; 4], device: &Device) -> Tensor<4> {
        let n = shape.iter().product::<usize>() as i64;
        Tensor::<1, Int>::arange(0..n, device)
            .float()
            .mul_scalar(0.7)
            .sin()
            .mul_scalar(0.4)
            .add_scalar(0.5)
            .reshape(shape)
    }

    #[test]
    fn the_regularisers_gradient_is_its_slope() {
        for objective in [Objective::ttame(), Objective { selection: Selection::Matching, ..Objective::ttame() }] {
            let maps = wavy([2, 2, 3, 4], &Device::default().autodiff()).detach().require_grad();
            let gradients = objective.regulariser(maps.clone()).loss.backward();
            let gradient = maps.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
            let values = maps.inner().try_into_vec_as::<f32>().unwrap();
            for (i, slope) in gradient.into_iter().enumerate() {
                let loss = |shift: f32| {
                    let mut moved = values.clone();
                    moved[i] += shift;
                    let moved = Tensor::<1>::from_floats(moved.as_slice(), &Device::default()).reshape([2, 2, 3, 4]);
                    objective.regulariser(moved).loss.into_scalar::<f32>()
                };
                let difference = (loss(5e-3) - loss(-5e-3)) / 1e-2;
                assert!((difference - slope).abs() < 2e-3, "cell {i}: slope {slope}, difference {difference}");
            }
        }
    }

    #[test]
    fn without_weight_smoothness_is_not_computed() {
        let maps = wavy([2, 2, 3, 3], &Device::default().autodiff()).detach().require_grad();
        let objective = Objective::ptame_vit_b_16();
        let regulariser = objective.regulariser(maps.clone());
        let ce = Tensor::<1>::full([1], 2.0, &Device::default());
        let reading = objective.terms(ce, &regulariser).read().unwrap();
        assert_eq!(reading.smooth, 0.0);
        assert!((reading.total - (0.131292 * 2.0 + 0.838571 * reading.area)).abs() < 1e-6);
        assert!(maps.grad(&regulariser.loss.backward()).is_some());
    }
}
