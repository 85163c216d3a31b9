//! Extremal perturbation (Fong et al., 2019).

use burn::tensor::{Device, Tensor};

use super::path::one_hot;
use super::spread::{Spread, cell, proportional};
use super::tensors::{from_values, indices, parts, values};
use super::{AttributionError, Attributor};
use crate::backbone::{Backbone, Tap};
use crate::explainer::min_max;
use crate::image::gaussian_blur;

/// The sum over areas a of the smooth masks m_a that keep a share a of the image and by that the largest logit y of the
/// class (equations 2 to 4): gradient ascent on
///
/// y(x blurred by m) - l mean (vecsort(m) - r_a)^2,
///
/// r_a being (1-a) n zeros and then a n ones, so that the second term says how large the mask is and that it is of zeros
/// and ones. Momentum 0.9, learning rate 0.01; l begins at 300 and grows by 1.0035 a step; parameters are kept in 0..1 and
/// begin at 1/2.
///
/// A mask is smooth by construction (section 3.3): m(u) = smax_i k(u - u_i) p_i over the parameters p_i on a grid of cells
/// of 7 pixels, smax the mean weighted by exp(./T), T = 1/20, and k(d) = exp(-max(0, |d| / 21 - 1)^2 / 4). It is made at the
/// grid's points and resized to the image (bilinear). Where m is 1 the image is as it was, where it is 0 blurred by 20
/// pixels, and between at a strength between: linearly between the nearest two of eight blurred images. Lengths are those
/// for images of 224 pixels, and in proportion for others.
///
/// Areas times n passes of both kinds.
#[derive(Clone, Debug)]
pub struct ExtremalPerturbation {
    /// Shares of the image.
    pub areas: Vec<f64>,
    /// n, for each area; the paper's is 800.
    pub steps: usize,
    /// Blurred images in memory at a time, but the areas of one image at least.
    pub per_call: usize,
}

const CELL: f64 = 7.0;
/// In cells.
const REACH: f32 = 3.0;
const TEMPERATURE: f32 = 1.0 / 20.0;
const BLUR: f64 = 20.0;
const LEVELS: usize = 8;
const RATE: f32 = 0.01;
const MOMENTUM: f32 = 0.9;
const WEIGHT: f32 = 300.0;
const GROWTH: f32 = 1.0035;

impl ExtremalPerturbation {
    /// The areas by default.
    pub const AREAS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.6];
}

impl Attributor for ExtremalPerturbation {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let areas = self.areas.len().max(1);
        let blocks = parts(classes.len(), (self.per_call / areas).max(1)).map(|part| {
            let some = images.clone().narrow(0, part.start, part.len());
            self.block(backbone, &some, classes.get(part).unwrap_or_default())
        });
        Ok(min_max(Tensor::cat(blocks.collect(), 0)))
    }
}

impl ExtremalPerturbation {
    /// The sums of the masks of a few images, `[B,1,H,W]`.
    fn block(&self, backbone: &dyn Backbone, images: &Tensor<4>, classes: &[usize]) -> Tensor<4> {
        let [batch, _, height, width] = images.dims();
        let device = images.device();
        let side = cell(CELL, [height, width]);
        let grid = [height, width].map(|pixels| pixels.div_ceil(side));
        let cells = grid[0] * grid[1];
        let (spread, smooth) = (Spread::bilinear(grid, [height, width], &device), Smooth::new(grid, &device));
        let levels = levels(images, self.areas.len());
        let rows = batch * self.areas.len();
        // The masks of the first image, one an area, then those of the second.
        let owners: Vec<usize> = classes.iter().flat_map(|class| vec![*class; self.areas.len()]).collect();
        let cotangent = one_hot(indices(&owners, &device));
        let mut parameters = Tensor::<2>::full([rows, cells], 0.5, &device);
        let mut speed = parameters.zeros_like();
        let mut weight = WEIGHT;
        for _ in 0..self.steps {
            let mask = smooth.apply(&parameters);
            let large = spread.apply(mask.clone().reshape([rows, 1, grid[0], grid[1]]));
            let (shown, slope) = blurred(&levels, large);
            let Tap::Map(gradient) = backbone.answer(shown, &cotangent).gradient else { break };
            let reward = spread.adjoint((gradient * slope).sum_dim(1)).reshape([rows, cells]);
            let off = mask.clone() - self.sorted_goal(&mask);
            let uphill = reward - off * (2.0 * weight / cells as f32);
            speed = speed * MOMENTUM + smooth.adjoint(&parameters, uphill);
            parameters = (parameters + speed.clone() * RATE).clamp(0.0, 1.0);
            weight *= GROWTH;
        }
        let masks = smooth.apply(&parameters).reshape([batch, self.areas.len(), cells]).sum_dim(1);
        spread.apply(masks.reshape([batch, 1, grid[0], grid[1]]))
    }

    /// For each mask's value that which `r_a` has at its place in the order, `[n,cells]`.
    fn sorted_goal(&self, masks: &Tensor<2>) -> Tensor<2> {
        let [rows, cells] = masks.dims();
        let mut goal = vec![0.0; rows * cells];
        let flat = values(masks.clone());
        for (row, (mask, goal)) in flat.chunks(cells.max(1)).zip(goal.chunks_mut(cells.max(1))).enumerate() {
            let area = self.areas.get(row % self.areas.len().max(1)).copied().unwrap_or(1.0);
            let kept = ((area * cells as f64).round() as usize).min(cells);
            let mut order: Vec<usize> = (0..cells).collect();
            order.sort_by(|a, b| mask[*b].total_cmp(&mask[*a]));
            order.into_iter().take(kept).for_each(|cell| goal[cell] = 1.0);
        }
        from_values(goal, [rows, cells], &masks.device())
    }
}

/// The smooth maximum over neighbours, weighted by their distance.
struct Smooth {
    /// k between any two points of the grid, `[cells,cells]`.
    kernel: Tensor<2>,
}

impl Smooth {
    fn new([rows, columns]: [usize; 2], device: &Device) -> Self {
        let cells = rows * columns;
        let place = |cell: usize| ((cell / columns) as f32, (cell % columns) as f32);
        let weight = |from: usize, to: usize| {
            let ((a, b), (c, d)) = (place(from), place(to));
            let distance = ((a - c).powi(2) + (b - d).powi(2)).sqrt() / REACH;
            (-(distance - 1.0).max(0.0).powi(2) / 4.0).exp()
        };
        let kernel = (0..cells * cells).map(|i| weight(i / cells, i % cells)).collect();
        Self { kernel: from_values(kernel, [cells, cells], device) }
    }

    /// For one mask's parameters `[1,cells]`: f = k p, exp(f / T) / sum exp(f / T), and m, all by point.
    fn terms(&self, parameters: Tensor<2>) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let weighted = self.kernel.clone() * parameters;
        let share = burn::tensor::activation::softmax(weighted.clone() / TEMPERATURE, 1);
        let mask = (weighted.clone() * share.clone()).sum_dim(1);
        (weighted, share, mask)
    }

    /// Parameters `[n,cells]` to masks `[n,cells]`, one after the other: what is between has cells^2 numbers.
    fn apply(&self, parameters: &Tensor<2>) -> Tensor<2> {
        let masks = parameters.clone().split(1, 0).into_iter().map(|row| self.terms(row).2.transpose());
        Tensor::cat(masks.collect(), 0)
    }

    /// A gradient with respect to the masks as one with respect to the parameters, both `[n,cells]`.
    fn adjoint(&self, parameters: &Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let rows = parameters.clone().split(1, 0).into_iter().zip(gradient.split(1, 0));
        let back = rows.map(|(row, gradient)| {
            let (weighted, share, mask) = self.terms(row);
            // d m / d f = share (1 + (f - m) / T)
            let slope = share * ((weighted - mask) / TEMPERATURE + 1.0);
            gradient.matmul(slope * self.kernel.clone())
        });
        Tensor::cat(back.collect(), 0)
    }
}

/// The images as they are, then more and more blurred, each image `times` times.
fn levels(images: &Tensor<4>, times: usize) -> Vec<Tensor<4>> {
    let [batch, channels, height, width] = images.dims();
    let level = |level: usize| {
        let sigma = proportional(BLUR, [height, width]) * level as f64 / (LEVELS - 1) as f64;
        let images = match level {
            0 => images.clone(),
            _ => gaussian_blur(images.clone(), 2 * (3.0 * sigma).ceil() as usize + 1, sigma),
        };
        let repeated = images.unsqueeze_dim::<5>(1).repeat_dim(1, times);
        repeated.reshape([batch * times, channels, height, width])
    };
    (0..LEVELS).map(level).collect()
}

/// Images `[n,3,H,W]` blurred as masks `[n,1,H,W]` say, and how they change with the masks.
fn blurred(levels: &[Tensor<4>], masks: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let last = levels.len().saturating_sub(1);
    let strength = (masks.neg().add_scalar(1.0) * last as f32).clamp(0.0, last as f32);
    let mut sum: Option<(Tensor<4>, Tensor<4>)> = None;
    for (i, pair) in levels.windows(2).enumerate() {
        let [weaker, stronger] = pair else { continue };
        // Each strength belongs to one pair; the strongest of all to the last.
        let above = strength.clone().greater_equal_elem(i as f32).float();
        let inside = match i + 1 == last {
            true => above,
            false => above * strength.clone().lower_elem((i + 1) as f32).float(),
        };
        let change = stronger.clone() - weaker.clone();
        let shown = (weaker.clone() + change.clone() * (strength.clone() - i as f32)) * inside.clone();
        let slope = change * inside * -(last as f32);
        sum = Some(match sum {
            Some((all, slopes)) => (all + shown, slopes + slope),
            None => (shown, slope),
        });
    }
    let none = || (strength.zeros_like(), strength.zeros_like());
    sum.unwrap_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::tensors::normal;
    use crate::weights::random::uniform;

    fn close(found: &[f32], expected: &[f32], within: f32) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() < within, "{f} instead of {e} at {i}");
        }
    }

    #[test]
    fn the_smooth_maximum_is_one_and_its_adjoint_its_slope() {
        let device = Device::default();
        let smooth = Smooth::new([3, 4], &device);
        let mut one = vec![0.0; 12];
        one[0] = 1.0;
        let mask = values(smooth.apply(&from_values(one, [1, 12], &device)));
        // Up to three cells away k is 1.
        assert!(mask[0] > 0.99 && mask[3] > 0.99 && (0.9..0.99).contains(&mask[11]), "{mask:?}");
        let parameters = from_values(uniform(1, "p", 24), [2, 12], &device);
        let (direction, gradient) = (normal([2, 12], 1, "d", 0, &device), normal([2, 12], 1, "g", 0, &device));
        let at = |by: f32| {
            values((smooth.apply(&(parameters.clone() + direction.clone() * by)) * gradient.clone()).sum())[0]
        };
        let slope = values((smooth.adjoint(&parameters, gradient.clone()) * direction.clone()).sum())[0];
        let expected = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((slope - expected).abs() < 2e-2 * expected.abs().max(1.0), "{slope} {expected}");
    }

    #[test]
    fn a_mask_blurs_between_the_levels() {
        let device = Device::default();
        let images = normal([1, 3, 9, 9], 1, "image", 0, &device);
        let levels = levels(&images, 2);
        assert_eq!((levels.len(), levels[3].dims()), (LEVELS, [2, 3, 9, 9]));
        let full = |value: f32| Tensor::<4>::full([2, 1, 9, 9], value, &device);
        close(&values(blurred(&levels, full(1.0)).0), &values(levels[0].clone()), 1e-5);
        close(&values(blurred(&levels, full(0.0)).0), &values(levels[7].clone()), 1e-5);
        let between = (levels[3].clone() + levels[4].clone()) / 2.0;
        let (shown, slope) = blurred(&levels, full(0.5));
        close(&values(shown), &values(between), 1e-5);
        close(&values(slope), &values((levels[3].clone() - levels[4].clone()) * 7.0), 1e-4);
    }

    #[test]
    fn the_goal_keeps_the_largest_of_each_mask() {
        let method = ExtremalPerturbation { areas: vec![0.25, 0.5], steps: 1, per_call: 1 };
        let masks = from_values(vec![0.1, 0.9, 0.3, 0.4, 0.8, 0.2, 0.1, 0.7], [2, 4], &Device::default());
        assert_eq!(values(method.sorted_goal(&masks)), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    }
}
