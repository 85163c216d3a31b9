//! Gaussian blur of batches.

use burn::tensor::{Device, Tensor, TensorData};

/// Gaussian blur of `images` `[B,C,H,W]` with a kernel of `taps` (odd) samples a side and standard deviation `sigma` in pixels; no
/// graph. Beyond the edge the image is reflected without repeating the edge, as in torchvision's `GaussianBlur`, and
/// reflected again if it is smaller than the kernel.
pub fn gaussian_blur(images: Tensor<4>, taps: usize, sigma: f64) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let device = images.device().inner();
    // Each direction is one matrix product: as fast as a convolution at these sizes, and without padding.
    let rows = blur_matrix(height, taps, sigma, &device).unsqueeze::<4>();
    let columns = blur_matrix(width, taps, sigma, &device).transpose();
    let blurred = images.inner().reshape([batch * channels * height, width]).matmul(columns);
    rows.matmul(blurred.reshape([batch, channels, height, width]))
}

/// `[n,n]`: row `i` holds the weights of the samples in blurred sample `i`.
fn blur_matrix(n: usize, taps: usize, sigma: f64, device: &Device) -> Tensor<2> {
    let reach = (taps / 2) as i64;
    let kernel: Vec<f64> = (-reach..=reach).map(|k| (-0.5 * (k as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    let mut matrix = vec![0.0f64; n * n];
    for row in 0..n {
        for (weight, offset) in kernel.iter().zip(-reach..) {
            matrix[row * n + reflect(row as i64 + offset, n)] += weight / sum;
        }
    }
    let matrix: Vec<f32> = matrix.into_iter().map(|weight| weight as f32).collect();
    Tensor::from_data(TensorData::new(matrix, [n, n]), device)
}

/// The position within `0..n` of a sample outside, reflected at the first and last sample.
fn reflect(position: i64, n: usize) -> usize {
    let last = n as i64 - 1;
    if last <= 0 {
        return 0;
    }
    let folded = position.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;

    fn values(tensor: Tensor<4>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    fn wavy(shape: [usize; 4], pitch: f64, device: &Device) -> Tensor<4> {
        let count = shape.iter().product::<usize>() as i64;
        let steps = Tensor::<1, Int>::arange(0..count, device).float();
        steps.mul_scalar(pitch).sin().mul_scalar(0.5).add_scalar(0.5).reshape(shape)
    }

    #[test]
    fn the_blur_is_a_reflected_convolution() {
        let device = Device::default();
        let (taps, sigma, h, w) = (5, 1.5, 6, 4);
        let images = wavy([1, 2, h, w], 1.7, &device);
        let from = values(images.clone());
        let kernel: Vec<f64> = (-2i64..=2).map(|k| (-(k * k) as f64 / (2.0 * sigma * sigma)).exp()).collect();
        let total: f64 = kernel.iter().sum();
        for (i, value) in values(gaussian_blur(images, taps, sigma)).iter().enumerate() {
            let (plane, row, column) = (i / (h * w), i / w % h, i % w);
            let mirror = |p: i64, n: usize| {
                if p < 0 {
                    -p
                } else if p >= n as i64 {
                    2 * (n as i64 - 1) - p
                } else {
                    p
                }
            };
            let mut expected = 0.0;
            for (dy, ky) in (-2..=2).zip(&kernel) {
                for (dx, kx) in (-2..=2).zip(&kernel) {
                    let (r, c) = (mirror(row as i64 + dy, h) as usize, mirror(column as i64 + dx, w) as usize);
                    expected += ky * kx / (total * total) * f64::from(from[plane * h * w + r * w + c]);
                }
            }
            assert!((f64::from(*value) - expected).abs() < 1e-6, "at {i}");
        }
    }

    #[test]
    fn images_smaller_than_the_kernel_blur_too() {
        let device = Device::default();
        let grey = Tensor::<4>::full([1, 3, 1, 5], 0.25, &device);
        assert!(values(gaussian_blur(grey, 55, 11.0)).iter().all(|v| (v - 0.25).abs() < 1e-6));
    }
}
