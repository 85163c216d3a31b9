//! The decoder's loss in its two published forms, and the selector's.
//!
//! The classifier is not part of the decoder's graph: it sees the image that the mask shows and the one that it hides,
//! and each part's gradient with respect to the logits is given here in closed form, for the backbone to pull back to
//! its input. Images with a fake target have no class to preserve or destroy; their mask is to be empty.

mod settings;
#[cfg(test)]
mod tests;

use burn::tensor::activation::{log_sigmoid, log_softmax, relu, sigmoid};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

pub use settings::{MaskLoss, PaperLoss, ReleasedLoss};

use crate::training::{area, cross_entropy_gradient, smoothness};

/// Stands for minus infinity among logits.
const NEVER: f32 = -1e30;

/// The two images that the classifier sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskedSide {
    /// Phi(x, m): the classifier must predict the class.
    Preserve,
    /// Phi(x, 1 - m): the classifier must not predict the class.
    Destroy,
}

/// The terms that depend on the masks alone; each tensor is `[1]`.
#[derive(Clone, Debug)]
pub struct MaskRegulariser {
    /// Weighted sum of the terms, differentiable in the raw masks.
    pub loss: Tensor<1>,
    /// Total variation or smoothness, unweighted, without a graph.
    pub tv: Tensor<1>,
    /// Area, unweighted, without a graph.
    pub area: Tensor<1>,
    /// How far the masks of fake targets are from empty ones, unweighted, without a graph; 0 without fake targets.
    pub empty: Tensor<1>,
}

impl MaskLoss {
    /// The terms of raw masks `[B,1,h,w]` (their sigmoid is the mask), `fake` telling which of them are for a wrong
    /// class.
    ///
    /// Smoothness and area are those of all masks. A fake target's mask is compared with an empty one by its mean
    /// cross-entropy, -ln(1 - m), with the weight of preservation, whose term it replaces; summed over the fake
    /// targets and divided by B.
    pub fn regulariser(&self, raw: Tensor<4>, fake: &[bool]) -> MaskRegulariser {
        let [batch, ..] = raw.dims();
        let device = raw.device().without_autodiff();
        let mask = sigmoid(raw.clone());
        let (tv, tv_weight, area_weight, power, empty_weight) = match self {
            // S(m) with q = 2 has half of the total variation.
            Self::Paper(own) => {
                (smoothness(mask.clone(), 0.0).mul_scalar(2.0), own.tv, own.area, own.area_power, own.preserve)
            }
            Self::Released(own) => {
                (smoothness(mask.clone(), own.border), own.tv, own.area, own.area_power, own.preserve)
            }
        };
        let area = area(mask, power);
        let mut loss = tv.clone().mul_scalar(tv_weight) + area.clone().mul_scalar(area_weight);
        let mut empty = Tensor::zeros([1], &device);
        let fake: Vec<i64> = (0..).zip(fake).filter(|(_, fake)| **fake).map(|(row, _)| row).collect();
        if !fake.is_empty() {
            let count = fake.len();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(fake, [count]), &device);
            let term = softplus(raw.select(0, rows)).mean().mul_scalar(count as f64 / batch.max(1) as f64);
            loss = loss + term.clone().mul_scalar(empty_weight);
            empty = term.without_autodiff();
        }
        MaskRegulariser { loss, tv: tv.without_autodiff(), area: area.without_autodiff(), empty }
    }

    /// The unweighted term of each image `[b]` from the classifier's logits `[b,K]` on its part, for its class `[b]`.
    pub fn term(&self, part: MaskedSide, logits: Tensor<2>, class: Tensor<1, Int>) -> Tensor<1> {
        let [rows, classes] = logits.dims();
        match (self, part) {
            (Self::Paper(_), MaskedSide::Preserve) => log_score(logits, class).neg(),
            (Self::Paper(PaperLoss { destroy_power, .. }), MaskedSide::Destroy) => {
                log_score(logits, class).mul_scalar(*destroy_power).exp()
            }
            // Without another class there is none to fall behind.
            (Self::Released(_), _) if classes < 2 => Tensor::zeros([rows], &logits.device()),
            (Self::Released(own), part) => {
                let (excess, _) = excess(logits, class);
                match part {
                    MaskedSide::Preserve => relu(excess.neg().add_scalar(own.preserve_margin)),
                    MaskedSide::Destroy => relu(excess.add_scalar(own.destroy_margin)),
                }
            }
        }
    }

    /// The term's weight in the loss.
    pub fn weight(&self, part: MaskedSide) -> f64 {
        match (self, part) {
            (Self::Paper(own), MaskedSide::Preserve) => own.preserve,
            (Self::Paper(own), MaskedSide::Destroy) => own.destroy,
            (Self::Released(own), MaskedSide::Preserve) => own.preserve,
            (Self::Released(own), MaskedSide::Destroy) => own.destroy,
        }
    }

    /// Gradient `[b,K]` of `weight * sum(term) / batch` with respect to the logits `[b,K]`, which may be a part of a
    /// batch of `batch` images.
    ///
    /// With p the softmax and e_t the unit vector of the class: preserve p - e_t and destroy a p_t^a (e_t - p) for the
    /// paper's form; for margins e_o - e_t and e_t - e_o, o the largest other class, where the margin is not kept.
    pub fn logit_gradient(
        &self,
        part: MaskedSide,
        logits: Tensor<2>,
        class: Tensor<1, Int>,
        batch: usize,
    ) -> Tensor<2> {
        let [rows, classes] = logits.dims();
        let gradient = match (self, part) {
            (Self::Paper(_), MaskedSide::Preserve) => cross_entropy_gradient(logits, class, batch),
            (Self::Paper(PaperLoss { destroy_power, .. }), MaskedSide::Destroy) => {
                let score = log_score(logits.clone(), class.clone()).mul_scalar(*destroy_power).exp();
                let towards = cross_entropy_gradient(logits, class, batch).neg();
                towards * score.mul_scalar(*destroy_power).reshape([rows, 1])
            }
            (Self::Released(_), _) if classes < 2 => logits.zeros_like(),
            (Self::Released(own), part) => margin_gradient(own, part, logits, class).div_scalar(batch.max(1) as f64),
        };
        gradient.mul_scalar(self.weight(part))
    }
}

/// Where the margin is not kept: +1 at the logit that is to fall and -1 at the one that is to rise.
fn margin_gradient(own: &ReleasedLoss, part: MaskedSide, logits: Tensor<2>, class: Tensor<1, Int>) -> Tensor<2> {
    let [rows, _] = logits.dims();
    let zeros = logits.zeros_like();
    let (excess, other) = excess(logits, class.clone());
    let (short, class_sign) = match part {
        MaskedSide::Preserve => (excess.neg().add_scalar(own.preserve_margin), -1.0),
        MaskedSide::Destroy => (excess.add_scalar(own.destroy_margin), 1.0),
    };
    let pull = short.greater_scalar(0.0).float().reshape([rows, 1]).mul_scalar(class_sign);
    zeros.scatter(1, class.reshape([rows, 1]), pull.clone(), IndexingUpdateOp::Add).scatter(
        1,
        other.reshape([rows, 1]),
        pull.neg(),
        IndexingUpdateOp::Add,
    )
}

/// ln p_t `[b]` of logits `[b,K]`.
fn log_score(logits: Tensor<2>, class: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    log_softmax(logits, 1).gather(1, class.reshape([rows, 1])).reshape([rows])
}

/// By how much each class's logit exceeds the largest other one `[b]`, and which that is `[b]`.
fn excess(logits: Tensor<2>, class: Tensor<1, Int>) -> (Tensor<1>, Tensor<1, Int>) {
    let [rows, _] = logits.dims();
    let class = class.reshape([rows, 1]);
    let own = logits.clone().gather(1, class.clone());
    let never = Tensor::<2>::full([rows, 1], NEVER, &logits.device());
    let others = logits.scatter(1, class, never, IndexingUpdateOp::Add);
    let other = others.clone().argmax(1);
    ((own - others.gather(1, other.clone())).reshape([rows]), other.reshape([rows]))
}

/// The selector's loss `[1]`: mean cross-entropy of its presence logits `[B]` with "the image shows this class", which
/// is false of the fake targets.
pub fn presence_loss(presence: Tensor<1>, fake: &[bool]) -> Tensor<1> {
    let signs: Vec<f32> = fake.iter().map(|fake| if *fake { 1.0 } else { -1.0 }).collect();
    let signs = Tensor::<1>::from_data(TensorData::new(signs, presence.dims()), &presence.device().without_autodiff());
    softplus(presence * signs).mean()
}

/// ln(1 + e^x) without overflow, with the right slope at 0 too.
fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    log_sigmoid(x.neg()).neg()
}
