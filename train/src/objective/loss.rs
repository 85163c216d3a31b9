//! The TAME family's objective: cross-entropy of the masked image, area and smoothness of the maps.
//!
//! The classifier stands outside the explainer's graph, so the cross-entropy reaches the explainer as a given gradient:
//! with `d = pullback(objective.logit_gradient(..))`, the loss to call `backward` on is
//! `(masked * d).sum() + regulariser.loss`.

use burn::tensor::{
    IndexingUpdateOp, Int, Tensor, TensorReadError,
    activation::{log_softmax, softmax},
    s,
};
use serde::{Deserialize, Serialize};

use crate::config::{Objective, Selection};

/// Keeps the area term's slope finite where a map is zero.
const AREA_OFFSET: f64 = 5e-4;

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
    pub fn terms(&self, ce: Tensor<1>, regulariser: &Regulariser) -> Terms {
        let ce = ce.inner();
        let total = ce.clone().mul_scalar(self.ce) + regulariser.loss.clone().inner();
        Terms { total, ce, area: regulariser.area.clone(), smooth: regulariser.smooth.clone() }
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

/// A step's loss and its terms on the device, each `[1]` and without a graph: nothing waits for them until
/// [`Terms::read`].
#[derive(Clone, Debug)]
pub struct Terms {
    /// Weighted sum of the terms.
    pub total: Tensor<1>,
    /// Mean cross-entropy, unweighted.
    pub ce: Tensor<1>,
    /// Area, unweighted.
    pub area: Tensor<1>,
    /// Smoothness, unweighted.
    pub smooth: Tensor<1>,
}

/// The numbers of [`Terms`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Weighted sum of the terms.
    pub total: f32,
    /// Mean cross-entropy, unweighted.
    pub ce: f32,
    /// Area, unweighted.
    pub area: f32,
    /// Smoothness, unweighted.
    pub smooth: f32,
}

impl Terms {
    /// Brings the four numbers to the host in one transfer, waiting for the device.
    ///
    /// # Errors
    /// When the device failed to compute them.
    pub fn read(self) -> Result<Reading, TensorReadError> {
        let terms = Tensor::cat(vec![self.total, self.ce, self.area, self.smooth], 0).try_into_vec_as::<f32>()?;
        Ok(Reading { total: terms[0], ce: terms[1], area: terms[2], smooth: terms[3] })
    }
}

/// Mean cross-entropy `[1]` of `logits` `[B,K]` with `class` `[B]`.
pub fn cross_entropy(logits: Tensor<2>, class: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, class.unsqueeze_dim(1)).mean().neg()
}

/// Gradient `[b,K]` of the mean cross-entropy over `batch` images with respect to `logits` `[b,K]`, in closed form:
/// `(softmax - one_hot) / batch`. The rows may be a part of the batch.
pub fn cross_entropy_gradient(logits: Tensor<2>, class: Tensor<1, Int>, batch: usize) -> Tensor<2> {
    let device = logits.device();
    let [rows, _] = logits.dims();
    let minus_one = Tensor::<2>::full([rows, 1], -1.0, &device);
    softmax(logits, 1)
        .scatter(1, class.unsqueeze_dim(1), minus_one, IndexingUpdateOp::Add)
        .div_scalar(batch.max(1) as f64)
}

/// Area `[1]` of `maps` in 0..=1: the mean of `(M + 5e-4)^power`.
pub fn area(maps: Tensor<4>, power: f64) -> Tensor<1> {
    maps.add_scalar(AREA_OFFSET).powf_scalar(power).mean()
}

/// Smoothness `[1]` of `maps` `[B,k,h,w]`: squared differences of neighbouring rows and columns plus `border` times the
/// squared values on the four borders (a corner lies on two), summed over all maps and divided by `2 B`.
pub fn smoothness(maps: Tensor<4>, border: f64) -> Tensor<1> {
    let [images, _, height, width] = maps.dims();
    let part = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        maps.clone().slice(s![.., .., rows.start as i64..rows.end as i64, columns.start as i64..columns.end as i64])
    };
    let mut sum = Tensor::<1>::zeros([1], &maps.device());
    if height > 1 {
        sum = sum + (part(1..height, 0..width) - part(0..height - 1, 0..width)).square().sum();
    }
    if width > 1 {
        sum = sum + (part(0..height, 1..width) - part(0..height, 0..width - 1)).square().sum();
    }
    if border != 0.0 {
        let edges = part(0..1, 0..width).square().sum()
            + part(height - 1..height, 0..width).square().sum()
            + part(0..height, 0..1).square().sum()
            + part(0..height, width - 1..width).square().sum();
        sum = sum + edges.mul_scalar(border);
    }
    sum.div_scalar(2.0 * images as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tolerance};

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
    fn the_closed_form_gradient_is_autodiffs() {
        let device = Device::default().autodiff();
        let logits = wavy([3, 5, 1, 1], &device).mul_scalar(4.0).reshape([3, 5]).detach().require_grad();
        let class = Tensor::<1, Int>::from_ints([4, 0, 4], &device);
        let gradients = cross_entropy(logits.clone(), class.clone()).backward();
        let expected = logits.grad(&gradients).unwrap();
        let found = cross_entropy_gradient(logits.inner(), class.inner(), 3);
        found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
    }

    #[test]
    fn a_part_of_the_batch_has_the_batchs_gradient() {
        let device = Device::default();
        let logits = wavy([4, 6, 1, 1], &device).reshape([4, 6]);
        let class = Tensor::<1, Int>::from_ints([1, 5, 2, 0], &device);
        let whole = cross_entropy_gradient(logits.clone(), class.clone(), 4);
        let part = cross_entropy_gradient(logits.slice(s![2..4, ..]), class.slice(s![2..4]), 4);
        let expected = whole.slice(s![2..4, ..]).into_data();
        part.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-7));
    }

    #[test]
    fn smoothness_of_a_step_edge() {
        // Two images of one 2x3 map, ones in the last column: rows agree, one column step of 1 in each of 2 rows.
        let map = Tensor::<4>::from_floats([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]], &Device::default());
        let maps = map.repeat_dim(0, 2);
        let value = |border| smoothness(maps.clone(), border).into_scalar::<f32>();
        assert_eq!(value(0.0), 2.0 * 2.0 / 4.0);
        // Borders: top 1, bottom 1, right 2, left 0.
        assert_eq!(value(0.5), 2.0 * (2.0 + 0.5 * 4.0) / 4.0);
    }

    #[test]
    fn a_map_of_one_cell_has_borders_only() {
        let maps = Tensor::<4>::full([1, 1, 1, 1], 0.5, &Device::default());
        assert_eq!(smoothness(maps, 1.0).into_scalar::<f32>(), 0.5);
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
