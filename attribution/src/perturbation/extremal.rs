//! Extremal perturbation.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use explainer_zoo::backbone::{Backbone, Tap};
use explainer_zoo::image::gaussian_blur;
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

use super::mask_resize::{MaskResize, cell_side, proportional};
use crate::method::Built;
use crate::tensors::{chunks, from_values, indices, values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "extremal-perturbation",
    title: "extremal perturbation",
    family: Family::Perturbation,
    paper: "Fong et al., 2019",
    access: Access::Gradients,
    passes: "5 n forward, 5 n backward",
    parameter: Some(("STEPS", 800)),
};

pub(crate) fn build(context: &MethodContext<'_>, steps: usize) -> Built {
    let areas = ExtremalPerturbation::AREAS.to_vec();
    Ok(Box::new(ExtremalPerturbation { areas, steps, batch_size: context.batch_size }))
}

/// Extremal perturbation (Fong et al., 2019, equations 2 to 4): the sum over areas a of the smooth mask m_a that keeps a share
/// a of the image and maximises the class's logit y. Gradient ascent on
///
/// y(x blurred by m) - l mean (vecsort(m) - r_a)^2
///
/// with r_a = (1-a) n zeros, then a n ones, so that the second term fixes the area and makes the mask binary. Learning rate
/// 0.01; momentum 0.9 of the mean gradient (0.1 of the new one is added); l starts at 300 and grows by 1.0035 a step;
/// parameters start at 1 and are clamped to 0..=1.
///
/// Masks are smooth by construction (section 3.3): m(u) = smax_i k(u - u_i) p_i over parameters p_i on a grid of cells of 7
/// pixels. smax is the mean weighted by exp(./T), T = 1/20. The kernel k is that of the authors' program, TorchRay, like the
/// start and the dampened momentum: k(d) = exp(-2 max(0, |d| / 21 - 1/2)^2) up to four cells to either side. With the kernel
/// that the paper prints, exp(-max(0, |d| / 21 - 1)^2 / 4) without a limit, a single parameter reveals a fifth of the image,
/// and smaller masks do not exist. The mask is computed at the grid's points and resized to the image (bilinear). At m = 1
/// the image is unchanged, at m = 0 it is blurred by 20 pixels, and between it is interpolated linearly between the nearest
/// two of eight blurred images. Lengths are for images of 224 pixels and scale with the image.
///
/// Maps `[B,1,H,W]` in 0..=1. n passes of both kinds for each area and image.
#[derive(Clone, Debug)]
pub struct ExtremalPerturbation {
    /// Shares of the image.
    pub areas: Vec<f64>,
    /// n, steps for each area; the paper's is 800.
    pub steps: usize,
    /// Blurred images in one call of the backbone; at least one for each area.
    pub batch_size: usize,
}

const CELL: f64 = 7.0;
/// The kernel's length, in cells.
const KERNEL_LENGTH: f32 = 3.0;
/// The kernel's radius, in cells.
const WINDOW: usize = 4;
const TEMPERATURE: f32 = 1.0 / 20.0;
/// Values of a mask that differ by less are equal in the sort.
const EQUAL: f32 = 1e-6;
const BLUR: f64 = 20.0;
const LEVELS: usize = 8;
const LEARNING_RATE: f32 = 0.01;
const MOMENTUM: f32 = 0.9;
const WEIGHT: f32 = 300.0;
const GROWTH: f32 = 1.0035;

impl ExtremalPerturbation {
    /// The default areas.
    pub const AREAS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.6];
}

impl AttributionMethod for ExtremalPerturbation {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let areas = self.areas.len().max(1);
        let blocks = chunks(classes.len(), (self.batch_size / areas).max(1)).map(|chunk| {
            let images = images.clone().narrow(0, chunk.start, chunk.len());
            self.block(backbone, &images, classes.get(chunk).unwrap_or_default())
        });
        Ok(min_max(Tensor::cat(blocks.collect(), 0)))
    }
}

impl ExtremalPerturbation {
    /// The sums of the masks of a few images, `[B,1,H,W]`.
    fn block(&self, backbone: &dyn Backbone, images: &Tensor<4>, classes: &[usize]) -> Tensor<4> {
        let [batch, _, height, width] = images.dims();
        let device = images.device();
        let side = cell_side(CELL, [height, width]);
        let grid = [height, width].map(|pixels| pixels.div_ceil(side));
        let cells = grid[0] * grid[1];
        let (resize, smooth) = (MaskResize::bilinear(grid, [height, width], &device), SmoothMax::new(grid, &device));
        let levels = levels(images, self.areas.len());
        let rows = batch * self.areas.len();
        // One mask for each area of the first image, then those of the second, and so on.
        let owners: Vec<usize> = classes.iter().flat_map(|class| vec![*class; self.areas.len()]).collect();
        let cotangent = one_hot(indices(&owners, &device));
        let mut parameters = Tensor::<2>::ones([rows, cells], &device);
        let mut velocity = parameters.zeros_like();
        let mut weight = WEIGHT;
        for _ in 0..self.steps {
            let mask = smooth.apply(&parameters);
            let large = resize.apply(mask.clone().reshape([rows, 1, grid[0], grid[1]]));
            let (perturbed, derivative) = blurred(&levels, large);
            let Tap::Map(gradient) = backbone.vjp(perturbed, &cotangent).gradient else { break };
            let reward = resize.adjoint((gradient * derivative).sum_dim(1)).reshape([rows, cells]);
            let deviation = mask.clone() - self.sorted_goal(&mask);
            let ascent = reward - deviation * (2.0 * weight / cells as f32);
            velocity = velocity * MOMENTUM + smooth.adjoint(&parameters, ascent) * (1.0 - MOMENTUM);
            parameters = (parameters + velocity.clone() * LEARNING_RATE).clamp(0.0, 1.0);
            weight *= GROWTH;
        }
        let masks = smooth.apply(&parameters).reshape([batch, self.areas.len(), cells]).sum_dim(1);
        resize.apply(masks.reshape([batch, 1, grid[0], grid[1]]))
    }

    /// The target of each mask value `[n,cells]`: the value of `r_a` at its rank. Equal values share the mean of their
    /// targets: at the start all are equal, and their order would be that of the cells.
    fn sorted_goal(&self, masks: &Tensor<2>) -> Tensor<2> {
        let [rows, cells] = masks.dims();
        let flat = values(masks.clone());
        let mut goal = Vec::with_capacity(flat.len());
        for (row, mask) in flat.chunks(cells.max(1)).enumerate() {
            let area = self.areas.get(row % self.areas.len().max(1)).copied().unwrap_or(1.0);
            let kept = ((area * cells as f64).round() as usize).clamp(1, cells);
            let mut order = mask.to_vec();
            order.sort_by(|a, b| b.total_cmp(a));
            let edge = order.get(kept - 1).copied().unwrap_or_default();
            let above = mask.iter().filter(|value| **value > edge + EQUAL).count();
            let equal = mask.iter().filter(|value| (**value - edge).abs() <= EQUAL).count();
            let share = (kept - above) as f32 / equal.max(1) as f32;
            goal.extend(mask.iter().map(|value| match value - edge {
                off if off > EQUAL => 1.0,
                off if off < -EQUAL => 0.0,
                _ => share,
            }));
        }
        from_values(goal, [rows, cells], &masks.device())
    }
}

/// The smooth maximum over neighbours, weighted by distance. Beyond the image the parameters of the edge are repeated, so
/// that equal parameters give equal values everywhere.
struct SmoothMax {
    /// Indices of the neighbours of each grid point, `[cells * window]`.
    neighbours: Tensor<1, Int>,
    /// Weights of the neighbours, `[1,1,window]`.
    kernel: Tensor<3>,
}

impl SmoothMax {
    fn new([rows, columns]: [usize; 2], device: &Device) -> Self {
        let window = || (0..2 * WINDOW + 1).flat_map(|down| (0..2 * WINDOW + 1).map(move |right| (down, right)));
        let weight = |(down, right): (usize, usize)| {
            let distance = (down.abs_diff(WINDOW) as f32).hypot(right.abs_diff(WINDOW) as f32) / KERNEL_LENGTH;
            (-2.0 * (distance - 0.5).max(0.0).powi(2)).exp()
        };
        let clamp = |place: usize, count: usize| place.saturating_sub(WINDOW).min(count.saturating_sub(1));
        let around = |cell: usize| {
            let (row, column) = (cell / columns, cell % columns);
            window().map(move |(down, right)| clamp(row + down, rows) * columns + clamp(column + right, columns))
        };
        let neighbours: Vec<usize> = (0..rows * columns).flat_map(around).collect();
        let kernel: Vec<f32> = window().map(weight).collect();
        let size = kernel.len();
        Self { neighbours: indices(&neighbours, device), kernel: from_values(kernel, [1, 1, size], device) }
    }

    /// For parameters `[n,cells]`: f = k p and softmax(f / T) over neighbours, both `[n,cells,window]`, and the mask m
    /// `[n,cells,1]`.
    fn terms(&self, parameters: &Tensor<2>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let [n, cells] = parameters.dims();
        let [.., window] = self.kernel.dims();
        let around = parameters.clone().select(1, self.neighbours.clone()).reshape([n, cells, window]);
        let weighted = around * self.kernel.clone();
        let share = softmax(weighted.clone() / TEMPERATURE, 2);
        let mask = (weighted.clone() * share.clone()).sum_dim(2);
        (weighted, share, mask)
    }

    /// Parameters `[n,cells]` to masks `[n,cells]`.
    fn apply(&self, parameters: &Tensor<2>) -> Tensor<2> {
        self.terms(parameters).2.reshape(parameters.dims())
    }

    /// The gradient with respect to the parameters, given that with respect to the masks; both `[n,cells]`.
    fn adjoint(&self, parameters: &Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let [n, cells] = parameters.dims();
        let (weighted, share, mask) = self.terms(parameters);
        // d m / d f = share (1 + (f - m) / T)
        let slope = share * ((weighted - mask) / TEMPERATURE + 1.0) * self.kernel.clone();
        let back = (slope * gradient.reshape([n, cells, 1])).flatten::<2>(1, 2);
        parameters.zeros_like().select_assign(1, self.neighbours.clone(), back, IndexingUpdateOp::Add)
    }
}

/// The images, then [`LEVELS`] - 1 copies with increasing blur; each image is repeated `times` times.
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

/// Images `[n,3,H,W]` blurred according to masks `[n,1,H,W]`, and their derivative with respect to the masks.
fn blurred(levels: &[Tensor<4>], masks: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let last = levels.len().saturating_sub(1);
    let strength = (masks.neg().add_scalar(1.0) * last as f32).clamp(0.0, last as f32);
    let mut sum: Option<(Tensor<4>, Tensor<4>)> = None;
    for (i, pair) in levels.windows(2).enumerate() {
        let [weaker, stronger] = pair else { continue };
        // Each strength belongs to one pair of levels; the maximum to the last pair.
        let above = strength.clone().greater_equal_elem(i as f32).float();
        let inside = match i + 1 == last {
            true => above,
            false => above * strength.clone().lower_elem((i + 1) as f32).float(),
        };
        let change = stronger.clone() - weaker.clone();
        let value = (weaker.clone() + change.clone() * (strength.clone() - i as f32)) * inside.clone();
        let slope = change * inside * -(last as f32);
        sum = Some(match sum {
            Some((all, slopes)) => (all + value, slopes + slope),
            None => (value, slope),
        });
    }
    let none = || (strength.zeros_like(), strength.zeros_like());
    sum.unwrap_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::normal;
    use explainer_zoo::weights::random::uniform;

    fn close(found: &[f32], expected: &[f32], within: f32) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() < within, "{f} instead of {e} at {i}");
        }
    }

    #[test]
    fn the_smooth_maximum_and_its_adjoint_are_the_definition() {
        let device = Device::default();
        let smooth = SmoothMax::new([11, 11], &device);
        let mut one = vec![0.0; 121];
        one[5 * 11 + 5] = 1.0;
        let mask = values(smooth.apply(&from_values(one, [1, 121], &device)));
        // k is 1 within half its length, exp(-1/2) at its length, and 0 beyond four cells.
        close(&mask[60..64], &[1.0, 1.0, (-2.0_f32 / 36.0).exp(), (-0.5_f32).exp()], 1e-2);
        assert!(mask[64] > 0.1 && mask[65] == 0.0, "{mask:?}");
        let smooth = SmoothMax::new([3, 4], &device);
        let even = values(smooth.apply(&Tensor::full([1, 12], 0.7, &device)));
        assert!(even.iter().all(|value| (value - even[0]).abs() < 1e-6), "{even:?}");
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
    fn blur_is_interpolated_between_the_levels() {
        let device = Device::default();
        let images = normal([1, 3, 9, 9], 1, "image", 0, &device);
        let levels = levels(&images, 2);
        assert_eq!((levels.len(), levels[3].dims()), (LEVELS, [2, 3, 9, 9]));
        let full = |value: f32| Tensor::<4>::full([2, 1, 9, 9], value, &device);
        close(&values(blurred(&levels, full(1.0)).0), &values(levels[0].clone()), 1e-5);
        close(&values(blurred(&levels, full(0.0)).0), &values(levels[7].clone()), 1e-5);
        let between = (levels[3].clone() + levels[4].clone()) / 2.0;
        let (value, slope) = blurred(&levels, full(0.5));
        close(&values(value), &values(between), 1e-5);
        close(&values(slope), &values((levels[3].clone() - levels[4].clone()) * 7.0), 1e-4);
    }

    #[test]
    fn the_goal_keeps_the_largest_of_each_mask() {
        let method = ExtremalPerturbation { areas: vec![0.25, 0.5], steps: 1, batch_size: 1 };
        let masks = from_values(vec![0.1, 0.9, 0.3, 0.4, 0.8, 0.2, 0.1, 0.7], [2, 4], &Device::default());
        assert_eq!(values(method.sorted_goal(&masks)), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        let masks = from_values(vec![0.5, 0.5, 0.5, 0.5, 1.0, 0.3, 0.3, 0.3], [2, 4], &Device::default());
        let third = 1.0 / 3.0;
        close(&values(method.sorted_goal(&masks)), &[0.25, 0.25, 0.25, 0.25, 1.0, third, third, third], 1e-6);
    }
}
