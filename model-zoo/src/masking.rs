//! Masking procedures: what an image looks like where a map is low.
//!
//! All of them are `b + m (x - b)` for a baseline image `b`, in the space of normalised images.

use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bilinear::resize;
use crate::image::{Preprocessing, gaussian_blur};

/// Taps and standard deviation (pixels) of the blurred baseline's Gaussian.
const BLUR: (usize, f64) = (55, 11.0);

/// What the classifier sees where the map `m` (0..1, upsampled to the image) masks the image `x`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Masking {
    /// `m * normalise(x)`: a hole has the data set's mean colour (T-TAME's ViT).
    #[default]
    AfterNorm,
    /// `normalise(m * x)`: a hole is black (T-TAME's CNNs, P-TAME).
    BeforeNorm,
    /// `m * x + (1 - m) * blur(x)`, Gaussian with kernel 55: a hole is blurred.
    Blur,
    /// A hole has the image's own mean colour.
    Mean,
}

impl Masking {
    /// The name in configurations and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterNorm => "after-norm",
            Self::BeforeNorm => "before-norm",
            Self::Blur => "blur",
            Self::Mean => "mean",
        }
    }

    /// Hides what `mask` `[B,1,h,w]` (0..=1) leaves out of normalised `images` `[B,3,H,W]`; the mask is upsampled to
    /// the images first. Differentiable in the mask.
    pub fn apply(self, images: Tensor<4>, mask: Tensor<4>, preprocessing: &Preprocessing) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let images = images.inner();
        let mask = resize(mask, [height, width]);
        match self.baseline(&images, preprocessing) {
            Some(baseline) => (images - baseline.clone()) * mask + baseline,
            None => images * mask,
        }
    }

    /// The normalised image shown where the mask is 0, broadcastable to `images`; none where it is zero.
    fn baseline(self, images: &Tensor<4>, preprocessing: &Preprocessing) -> Option<Tensor<4>> {
        match self {
            Self::AfterNorm => None,
            // norm(m * unnorm(x)) = m x + (m - 1) mean / std.
            Self::BeforeNorm => {
                let black: Vec<f32> = preprocessing.mean.iter().zip(&preprocessing.std).map(|(m, s)| -m / s).collect();
                Some(Tensor::from_data(TensorData::new(black, [1, 3, 1, 1]), &images.device()))
            }
            Self::Blur => Some(gaussian_blur(images.clone(), BLUR.0, BLUR.1)),
            Self::Mean => Some(images.clone().mean_dim(3).mean_dim(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Filter;
    use burn::tensor::{Device, Int, Tolerance};

    const IMAGENET: Preprocessing = Preprocessing {
        resize: 256,
        crop: 224,
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    fn wavy(shape: [usize; 4], pitch: f64, device: &Device) -> Tensor<4> {
        let n = shape.iter().product::<usize>() as i64;
        Tensor::<1, Int>::arange(0..n, device)
            .float()
            .mul_scalar(pitch)
            .sin()
            .mul_scalar(0.5)
            .add_scalar(0.5)
            .reshape(shape)
    }

    /// PyTorch's bilinear weights: samples and share of the upper one for output position `o`.
    fn source(o: usize, input: usize, output: usize) -> (usize, usize, f64) {
        let position = ((o as f64 + 0.5) * input as f64 / output as f64 - 0.5).max(0.0);
        let low = position as usize;
        (low, (low + 1).min(input - 1), position - low as f64)
    }

    #[test]
    fn upsampling_aligns_pixel_centres() {
        for ([h, w], [height, width]) in [([2, 3], [5, 7]), ([7, 7], [224, 224]), ([14, 9], [9, 14]), ([1, 1], [3, 2])]
        {
            let maps = wavy([2, 2, h, w], 0.9, &Device::default());
            let from = values(maps.clone());
            let found = values(resize(maps, [height, width]));
            for (i, value) in found.iter().enumerate() {
                let (plane, row, column) = (i / (height * width), i / width % height, i % width);
                let (top, bottom, y) = source(row, h, height);
                let (left, right, x) = source(column, w, width);
                let at = |r: usize, c: usize| f64::from(from[plane * h * w + r * w + c]);
                let expected = (1.0 - y) * ((1.0 - x) * at(top, left) + x * at(top, right))
                    + y * ((1.0 - x) * at(bottom, left) + x * at(bottom, right));
                assert!((f64::from(*value) - expected).abs() < 1e-6, "{h}x{w} -> {height}x{width} at {i}");
            }
        }
    }

    #[test]
    fn every_maskings_gradient_is_its_slope() {
        let device = Device::default();
        let images = wavy([2, 3, 10, 8], 1.3, &device);
        let weights = wavy([2, 3, 10, 8], 0.37, &device);
        for masking in [Masking::AfterNorm, Masking::BeforeNorm, Masking::Blur, Masking::Mean] {
            let mask = wavy([2, 1, 3, 2], 0.8, &device.clone().autodiff()).detach().require_grad();
            let loss = |mask| (masking.apply(images.clone(), mask, &IMAGENET) * weights.clone()).sum();
            let gradients = loss(mask.clone()).backward();
            let gradient = values(mask.grad(&gradients).unwrap());
            let at = values(mask.inner());
            for (i, slope) in gradient.into_iter().enumerate() {
                let moved = |shift: f32| {
                    let mut moved = at.clone();
                    moved[i] += shift;
                    loss(Tensor::<1>::from_floats(moved.as_slice(), &device).reshape([2, 1, 3, 2])).into_scalar::<f32>()
                };
                // The loss is linear in the mask, so a wide difference is exact.
                let difference = (moved(0.5) - moved(-0.5)) / 1.0;
                assert!((difference - slope).abs() < 1e-3, "{masking:?} cell {i}: {slope} against {difference}");
            }
        }
    }

    #[test]
    fn an_open_mask_shows_the_image_and_a_closed_one_the_baseline() {
        let device = Device::default();
        let images = wavy([2, 3, 6, 6], 1.3, &device);
        let [open, closed] = [1.0, 0.0].map(|m| Tensor::<4>::full([2, 1, 3, 3], m, &device));
        for masking in [Masking::AfterNorm, Masking::BeforeNorm, Masking::Blur, Masking::Mean] {
            let shown = masking.apply(images.clone(), open.clone(), &IMAGENET);
            shown.into_data().assert_approx_eq::<f32>(&images.to_data(), Tolerance::absolute(1e-6));
        }
        assert!(values(Masking::AfterNorm.apply(images.clone(), closed.clone(), &IMAGENET)).iter().all(|v| *v == 0.0));
        let black = values(Masking::BeforeNorm.apply(images.clone(), closed.clone(), &IMAGENET));
        for (i, value) in black.iter().enumerate() {
            let channel = i / 36 % 3;
            assert!((value * IMAGENET.std[channel] + IMAGENET.mean[channel]).abs() < 1e-6);
        }
        let mean = values(Masking::Mean.apply(images.clone(), closed, &IMAGENET));
        for (plane, shown) in values(images).chunks(36).zip(mean.chunks(36)) {
            let expected = plane.iter().sum::<f32>() / 36.0;
            assert!(shown.iter().all(|v| (v - expected).abs() < 1e-6));
        }
    }
}
