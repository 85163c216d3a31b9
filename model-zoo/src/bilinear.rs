//! Bilinear resize of maps, differentiable on every device.

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};

/// Bilinear resize of maps `[B,C,h,w]` to `size` (rows, columns): PyTorch's `align_corners=False`, without antialiasing. Maps
/// of that size are returned as they are.
pub fn resize(maps: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = maps.dims();
    if [height, width] == size {
        return maps;
    }
    if maps.device().without_autodiff() == Device::flex() {
        let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
        return interpolate(maps, options.with_output_size(size));
    }
    resize_by_matmul(maps, size)
}

/// The resize by two matrix products: Burn's bilinear interpolation has no gradient on GPUs.
fn resize_by_matmul(maps: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = maps.dims();
    let device = maps.device().without_autodiff();
    let rows = weights(height, size[0], &device).cast(maps.dtype());
    let columns = weights(width, size[1], &device).cast(maps.dtype());
    let lifted = |weights: Tensor<4>| if maps.is_autodiff() { weights.autodiff() } else { weights };
    lifted(rows).matmul(maps.clone()).matmul(lifted(columns).swap_dims(2, 3))
}

/// Interpolation weights along one axis, `[1,1,to,from]`; each row sums to 1.
fn weights(from: usize, to: usize, device: &Device) -> Tensor<4> {
    let mut values = vec![0.0f32; to * from];
    for (row, out) in values.chunks_exact_mut(from.max(1)).zip(0..) {
        let centre = ((out as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let first = centre.floor();
        let part = centre - first;
        row[first as usize] += 1.0 - part;
        row[(first as usize + 1).min(from - 1)] += part;
    }
    Tensor::from_data(TensorData::new(values, [1, 1, to, from]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    use crate::weights::random::uniform;

    #[test]
    fn matmul_and_interpolation_agree_with_their_gradients() {
        for (from, to) in
            [([7, 7], [14, 14]), ([14, 14], [224, 224]), ([5, 3], [4, 9]), ([1, 1], [3, 2]), ([9, 8], [2, 3])]
        {
            let [map, seed] = [("map", from), ("seed", to)].map(|(name, [height, width])| {
                let values = uniform(1, name, 6 * height * width);
                Tensor::<4>::from_data(TensorData::new(values, [2, 3, height, width]), &Device::flex())
            });
            let run = |of: fn(Tensor<4>, [usize; 2]) -> Tensor<4>| {
                let map = map.clone().autodiff().require_grad();
                let resized = of(map.clone(), to);
                let gradients = (resized.clone() * seed.clone().autodiff()).sum().backward();
                [resized.without_autodiff(), map.grad(&gradients).unwrap()].map(Tensor::into_data)
            };
            for (found, expected) in run(resize_by_matmul).iter().zip(&run(resize)) {
                found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-5, 1e-5));
            }
        }
    }
}
