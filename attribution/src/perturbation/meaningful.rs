//! Meaningful perturbation.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, activation::softmax};
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::image::gaussian_blur;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

use super::mask_resize::{MaskResize, cell_side, proportional};
use crate::adam::Adam;
use crate::method::Built;
use crate::tensors::{RandomStream, from_values, indices, values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "meaningful-perturbation",
    title: "meaningful perturbation",
    family: Family::Perturbation,
    paper: "Fong and Vedaldi, 2017",
    access: Access::Gradients,
    passes: "12 + n forward, n backward",
    parameter: Some(("STEPS", 300)),
};

pub(crate) fn build(context: &MethodContext<'_>, steps: usize) -> Built {
    Ok(Box::new(MeaningfulPerturbation { steps, seed: context.seed }))
}

/// Meaningful perturbation (Fong and Vedaldi, 2017, equation 6): 1 - m for the mask m that deletes the class with the least
/// area. Adam minimises
///
/// `l1 sum |1 - m| + l2 sum |grad m|^3 + p(x' M + blur(x') (1 - M))`
///
/// with p the class's probability, l1 = 1e-4, l2 = 1e-2, a learning rate of 0.1 and m clamped to 0..=1. m is a grid of cells
/// of 8 pixels; M is m at the image's size, by Gaussian weights of 5 pixels. x' is the image shifted by 0 to 3 pixels down and
/// right, drawn at every step (edges repeated). The blur has 10 pixels. m starts as the smallest of ten discs about the
/// centre whose deletion moves the probability 99% of the way to that of the blurred image. Lengths are for images of 224
/// pixels and scale with the image.
///
/// Maps `[B,1,H,W]` in 0..=1. 12 + n forward and n backward passes an image.
#[derive(Clone, Debug)]
pub struct MeaningfulPerturbation {
    /// n; the paper's is 300.
    pub steps: usize,
    /// Seed of the shifts.
    pub seed: u64,
}

const CELL: f64 = 8.0;
/// Standard deviation of the mask's Gaussian, in cells.
const DEVIATION: f32 = 5.0 / 8.0;
const BLUR: f64 = 10.0;
const L1: f32 = 1e-4;
const L2: f32 = 1e-2;
const LEARNING_RATE: f32 = 0.1;
const JITTER: f64 = 4.0;
const DISCS: usize = 10;

impl AttributionMethod for MeaningfulPerturbation {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [_, _, height, width] = images.dims();
        let device = images.device();
        let size = [height, width];
        let side = cell_side(CELL, size);
        let cells = size.map(|pixels| pixels.div_ceil(side));
        let resize = MaskResize::gaussian(cells, size, side, DEVIATION * side as f32, &device);
        let sigma = proportional(BLUR, size);
        let blurred = gaussian_blur(images.clone(), 2 * (3.0 * sigma).ceil() as usize + 1, sigma);
        let jitter = cell_side(JITTER, size);
        let mut mask = initial_masks(backbone, images, &blurred, classes, &resize, cells);
        let cotangent = probability_gradient(indices(classes, &device));
        let mut adam = Adam::new(LEARNING_RATE);
        for step in 0..self.steps {
            let mut stream = RandomStream::new(self.seed, "meaningful perturbation", &[step as u64]);
            let shift = [stream.below(jitter), stream.below(jitter)];
            let (sharp, soft) = (shifted(images.clone(), shift), shifted(blurred.clone(), shift));
            let difference = sharp - soft.clone();
            let masked = soft + difference.clone() * resize.apply(mask.clone());
            let Tap::Map(gradient) = backbone.vjp(masked, &cotangent).gradient else { break };
            let to_mask = resize.adjoint((gradient * difference).sum_dim(1));
            let gradient = to_mask - L1 + variation_gradient(mask.clone()) * L2;
            mask = adam.step(mask, gradient).clamp(0.0, 1.0);
        }
        Ok(min_max(resize.apply(-mask)))
    }
}

/// The discs that the masks start from, `[B,1,h,w]`: 0 inside, 1 outside.
fn initial_masks(
    backbone: &dyn Backbone,
    images: &Tensor<4>,
    blurred: &Tensor<4>,
    classes: &[usize],
    resize: &MaskResize,
    [rows, columns]: [usize; 2],
) -> Tensor<4> {
    let device = images.device();
    let scores = |images: Tensor<4>| {
        let rows = softmax(backbone.forward(images, &[]).logits, 1);
        let [_, count] = rows.dims();
        let all = values(rows);
        let score = |(row, class): (&[f32], &usize)| row.get(*class).copied().unwrap_or(0.0);
        all.chunks(count.max(1)).zip(classes).map(score).collect::<Vec<f32>>()
    };
    let (clean, deleted) = (scores(images.clone()), scores(blurred.clone()));
    let difference = images.clone() - blurred.clone();
    let mut best: Vec<Option<usize>> = vec![None; classes.len()];
    for size in 1..=DISCS {
        let mask = resize.apply(disc(size, rows, columns, &device));
        let left = scores(blurred.clone() + difference.clone() * mask);
        for (image, best) in best.iter_mut().enumerate() {
            let goal = clean[image] - 0.99 * (clean[image] - deleted[image]);
            if best.is_none() && left[image] <= goal {
                *best = Some(size);
            }
        }
    }
    let masks = best.into_iter().map(|size| disc(size.unwrap_or(DISCS), rows, columns, &device));
    Tensor::cat(masks.collect(), 0)
}

/// A disc about the centre, `[1,1,rows,columns]`: 0 within `size` tenths of the distance to the corners, 1 outside.
fn disc(size: usize, rows: usize, columns: usize, device: &Device) -> Tensor<4> {
    let coordinate = |index: usize, count: usize| (2.0 * index as f32 + 1.0) / count as f32 - 1.0;
    let inside = |i: usize| {
        let (y, x) = (coordinate(i / columns, rows), coordinate(i % columns, columns));
        ((x * x + y * y) / 2.0).sqrt() <= size as f32 / DISCS as f32
    };
    let mask = (0..rows * columns).map(|i| if inside(i) { 0.0 } else { 1.0 }).collect();
    from_values(mask, [1, 1, rows, columns], device)
}

/// Images shifted by pixels down and right, edges repeated.
fn shifted(images: Tensor<4>, [down, right]: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let device = images.device();
    let from = |by: usize, pixels: usize| (0..pixels).map(|i| i.saturating_sub(by)).collect::<Vec<usize>>();
    images.select(2, indices(&from(down, height), &device)).select(3, indices(&from(right, width), &device))
}

/// The gradient of the sum of |difference|^3 over neighbours, for masks `[B,1,h,w]`.
fn variation_gradient(mask: Tensor<4>) -> Tensor<4> {
    let along = |dim: usize| {
        let side = mask.dims()[dim];
        if side < 2 {
            return mask.zeros_like();
        }
        let step = mask.clone().narrow(dim, 1, side - 1) - mask.clone().narrow(dim, 0, side - 1);
        let slope = step.clone() * step.abs() * 3.0;
        let edge = slope.clone().narrow(dim, 0, 1).zeros_like();
        Tensor::cat(vec![edge.clone(), slope.clone()], dim) - Tensor::cat(vec![slope, edge], dim)
    };
    along(2) + along(3)
}

/// The gradient of each row's class probability p with respect to the logits.
fn probability_gradient(class: Tensor<1, Int>) -> impl Fn(Tensor<2>, Range<usize>) -> Tensor<2> + Sync {
    let targets = one_hot(class);
    move |logits, rows| {
        let scores = softmax(logits.clone(), 1);
        let target = targets(logits, rows);
        let score = (scores.clone() * target.clone()).sum_dim(1);
        (target - scores) * score
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::normal;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let device = Device::default();
        let mask = normal([1, 1, 3, 4], 5, "mask", 0, &device);
        let at = values(mask.clone());
        let energy = |at: &[f64]| {
            let value = |y: usize, x: usize| at[y * 4 + x];
            let mut sum = 0.0;
            for y in 0..3 {
                for x in 0..4 {
                    if y > 0 {
                        sum += (value(y, x) - value(y - 1, x)).abs().powi(3);
                    }
                    if x > 0 {
                        sum += (value(y, x) - value(y, x - 1)).abs().powi(3);
                    }
                }
            }
            sum
        };
        for (i, slope) in values(variation_gradient(mask)).iter().enumerate() {
            let shifted = |by: f64| {
                let mut at: Vec<f64> = at.iter().map(|v| f64::from(*v)).collect();
                at[i] += by;
                energy(&at)
            };
            let expected = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
            assert!((f64::from(*slope) - expected).abs() < 1e-3, "{slope} {expected}");
        }
        let logits = normal([1, 3], 5, "logits", 0, &device);
        let score = |logits: Tensor<2>| values(softmax(logits, 1))[1];
        let slopes = values(probability_gradient(indices(&[1], &device))(logits.clone(), 0..1));
        for (i, slope) in slopes.iter().enumerate() {
            let by = |by: f32| from_values((0..3).map(|j| if i == j { by } else { 0.0 }).collect(), [1, 3], &device);
            let expected = (score(logits.clone() + by(1e-2)) - score(logits.clone() - by(1e-2))) / 2e-2;
            assert!((slope - expected).abs() < 1e-3, "{slope} {expected}");
        }
    }

    #[test]
    fn images_shift_and_discs_grow() {
        let device = Device::default();
        let image = from_values((0..6).map(|v| v as f32).collect(), [1, 1, 2, 3], &device);
        assert_eq!(values(shifted(image.clone(), [0, 1])), [0.0, 0.0, 1.0, 3.0, 3.0, 4.0]);
        assert_eq!(values(shifted(image, [3, 0])), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
        let deleted = |size| values(disc(size, 6, 6, &device)).iter().filter(|v| **v == 0.0).count();
        assert_eq!((deleted(1), deleted(2), deleted(DISCS)), (0, 4, 36));
    }
}
