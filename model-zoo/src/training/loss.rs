//! Loss terms that several explainers share: cross-entropy of the masked image's logits, area and smoothness of the
//! maps.

use burn::tensor::{
    IndexingUpdateOp, Int, Tensor,
    activation::{log_softmax, softmax},
    s,
};

/// Keeps the area term's slope finite where a map is zero.
const AREA_OFFSET: f64 = 5e-4;

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
}
