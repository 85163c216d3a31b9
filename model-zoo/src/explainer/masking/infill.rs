//! Phi(x, m) = m x + (1 - m) A: the classifier's input. A is drawn for every image and step.
//!
//! The paper's figures are for pixels in -1..1. This project's are in 0..1, half as far apart, and the classifier's
//! normalisation divides by its standard deviation s: a figure d of the paper's is d / (2 s) here, and its 0 is the
//! grey 0.5. Nothing is clamped, as in the paper.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use garde::Validate;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bilinear::resize;
use crate::image::{Preprocessing, gaussian_blur};
use crate::random::stream;
use crate::range;

/// Taps and standard deviation (pixels) of the blur.
const BLUR: (usize, f64) = (55, 11.0);
/// Grey in 0..1.
const GREY: f32 = 0.5;

/// What the classifier sees: `m * x + (1 - m) * A`, A resampled for every image and step. The figures are the paper's,
/// for pixels in -1..1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Infill {
    /// How often A is the image itself, blurred (Gaussian, kernel 55, sigma 11); else it is a colour with noise.
    #[garde(custom(range::fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub blur: f64,
    /// Extent of the uniform distribution that each channel of the colour is drawn from, around mid-grey.
    #[garde(custom(range::not_negative))]
    #[schemars(range(min = 0.0))]
    pub colour: f64,
    /// Standard deviation of the colour's noise.
    #[garde(custom(range::not_negative))]
    #[schemars(range(min = 0.0))]
    pub noise: f64,
    /// Standard deviation of the noise that is added to x.
    #[garde(custom(range::not_negative))]
    #[schemars(range(min = 0.0))]
    pub image_noise: f64,
}

impl Default for Infill {
    fn default() -> Self {
        Self { blur: 0.5, colour: 0.66, noise: 0.11, image_noise: 0.03 }
    }
}

/// Images with what takes their place.
#[derive(Clone, Debug)]
pub struct Infilled {
    /// x with its noise `[B,3,H,W]`, normalised.
    pub images: Tensor<4>,
    /// A `[B,3,H,W]`, normalised.
    pub fill: Tensor<4>,
}

impl Infilled {
    /// m x + (1 - m) A for masks `[B,1,h,w]` in 0..1, which are upsampled (bilinear) to the images. Differentiable in
    /// the mask.
    pub fn show(&self, mask: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = self.images.dims();
        (self.images.clone() - self.fill.clone()) * resize(mask, [height, width]) + self.fill.clone()
    }
}

/// What is drawn for one image.
struct Drawn {
    /// A is the blurred image: `fill` is empty.
    blurred: bool,
    /// Added to x.
    noise: Vec<f32>,
    /// A.
    fill: Vec<f32>,
}

impl Infill {
    /// Draws A and the noise for normalised `images` `[B,3,H,W]` with these numbers in the set: a pure function of
    /// seed, purpose, step and number. `purpose` keeps the draws for the shown and the hidden image apart.
    pub fn draw(
        &self,
        images: Tensor<4>,
        preprocessing: &Preprocessing,
        (seed, purpose, step): (u64, &str, usize),
        numbers: &[usize],
    ) -> Infilled {
        let shape = images.dims();
        let [_, _, height, width] = shape;
        let device = images.device();
        let draw = |number: &usize| {
            self.one(&mut stream(seed, purpose, &[step as u64, *number as u64]), preprocessing, height * width)
        };
        let drawn: Vec<Drawn> = numbers.par_iter().map(draw).collect();

        let stack = |part: fn(&Drawn) -> &Vec<f32>| {
            let mut values = Vec::with_capacity(shape.iter().product());
            for image in &drawn {
                let (length, part) = (3 * height * width, part(image));
                values.extend_from_slice(part);
                values.resize(values.len() + length - part.len(), 0.0);
            }
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        let blurred: Vec<i64> = (0..).zip(&drawn).filter(|(_, image)| image.blurred).map(|(i, _)| i).collect();
        let mut fill = stack(|image| &image.fill);
        if !blurred.is_empty() {
            let count = blurred.len();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(blurred, [count]), &device);
            let smooth = gaussian_blur(images.clone().select(0, rows.clone()), BLUR.0, BLUR.1);
            fill = fill.select_assign(0, rows, smooth, IndexingUpdateOp::Add);
        }
        let images = match self.image_noise {
            0.0 => images,
            _ => images + stack(|image| &image.noise),
        };
        Infilled { images, fill }
    }

    /// Draws for an image of `size` pixels.
    fn one(&self, random: &mut ChaCha8Rng, preprocessing: &Preprocessing, size: usize) -> Drawn {
        let blurred = fraction(random.next_u32()) < self.blur;
        let colour = [(); 3].map(|()| (fraction(random.next_u32()) - 0.5) * self.colour / 2.0);
        let channels = || preprocessing.mean.iter().zip(&preprocessing.std);
        let mut noise = Vec::new();
        if self.image_noise > 0.0 {
            for (_, std) in channels() {
                extend_with_normals(&mut noise, random, size, 0.0, self.image_noise as f32 / (2.0 * std));
            }
        }
        let mut fill = Vec::new();
        if !blurred {
            for ((mean, std), colour) in channels().zip(colour) {
                let centre = (GREY + colour as f32 - mean) / std;
                extend_with_normals(&mut fill, random, size, centre, self.noise as f32 / (2.0 * std));
            }
        }
        Drawn { blurred, noise, fill }
    }
}

/// 24 of 32 random bits as a number in `0.0..1.0`.
fn fraction(bits: u32) -> f64 {
    f64::from(bits >> 8) / f64::from(1_u32 << 24)
}

/// `count` draws from a normal distribution, by Box and Muller's transform.
fn extend_with_normals(values: &mut Vec<f32>, random: &mut ChaCha8Rng, count: usize, mean: f32, deviation: f32) {
    let end = values.len() + count;
    values.reserve(count);
    while values.len() < end {
        let (u, v) = (random.next_u32() >> 8, random.next_u32() >> 8);
        // 24 bits each; one more than a fraction's numerator keeps the logarithm finite.
        let unit = 1.0 / (1_u32 << 24) as f32;
        let radius = deviation * (-2.0 * ((u + 1) as f32 * unit).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * v as f32 * unit).sin_cos();
        values.push(mean + radius * cosine);
        if values.len() < end {
            values.push(mean + radius * sine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Filter;
    use burn::tensor::{Device, Tolerance};

    const IMAGENET: Preprocessing = Preprocessing {
        resize: 256,
        crop: 224,
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    const NONE: Infill = Infill { blur: 0.0, colour: 0.0, noise: 0.0, image_noise: 0.0 };

    fn pictures(count: usize, side: usize) -> Tensor<4> {
        let length = (count * 3 * side * side) as i64;
        let waves = Tensor::<1, Int>::arange(0..length, &Device::default()).float().mul_scalar(0.37).sin();
        IMAGENET.normalise(waves.mul_scalar(0.4).add_scalar(0.5).reshape([count, 3, side, side]))
    }

    fn numbers(count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    /// Mean and standard deviation.
    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (mean, (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn a_blurred_fill_is_the_image_blurred() {
        let images = pictures(3, 24);
        let infilled = Infill { blur: 1.0, ..NONE }.draw(images.clone(), &IMAGENET, (0, "shown", 0), &numbers(3));
        assert_eq!(infilled.images.into_data(), images.to_data());
        let expected = gaussian_blur(images, 55, 11.0).into_data();
        infilled.fill.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn a_colour_is_uniform_around_grey_in_the_papers_extent() {
        let count = 2000;
        let infill = Infill { colour: 0.66, ..NONE };
        let fill = infill.draw(pictures(count, 2), &IMAGENET, (1, "shown", 0), &numbers(count)).fill;
        let pixels = values(IMAGENET.unnormalise(fill));
        assert!(pixels.chunks(4).all(|plane| plane.iter().all(|v| (v - plane[0]).abs() < 1e-6)), "one colour");
        // -0.33..0.33 of pixels in -1..1 is 0.335..0.665 of pixels in 0..1.
        let (low, high) = pixels.iter().fold((1.0_f32, 0.0_f32), |(low, high), v| (low.min(*v), high.max(*v)));
        assert!((low - 0.335).abs() < 2e-3 && (high - 0.665).abs() < 2e-3, "{low} {high}");
        let (mean, deviation) = moments(&pixels);
        assert!((mean - 0.5).abs() < 5e-3 && (deviation - 0.33 / 12.0_f64.sqrt()).abs() < 2e-3, "{mean} {deviation}");
        let channel = |c: usize| pixels.chunks(12).map(|image| image[4 * c]).collect::<Vec<_>>();
        assert!(channel(0).iter().zip(channel(1)).any(|(r, g)| (r - g).abs() > 0.1), "channels are drawn apart");
    }

    #[test]
    fn noise_is_half_the_papers_in_pixels_of_0_to_1() {
        let draw = |infill: Infill| infill.draw(pictures(4, 64), &IMAGENET, (2, "shown", 3), &numbers(4));
        let fill = values(IMAGENET.unnormalise(draw(Infill { noise: 0.11, ..NONE }).fill));
        let (mean, deviation) = moments(&fill);
        assert!((mean - 0.5).abs() < 1e-3 && (deviation - 0.055).abs() < 1e-3, "{mean} {deviation}");
        // Of a normal distribution 68.3% lie within one deviation, 95.4% within two.
        let within = |d: f64| fill.iter().filter(|v| (f64::from(**v) - mean).abs() < d * deviation).count() as f64;
        let share = |d: f64| within(d) / fill.len() as f64;
        assert!((share(1.0) - 0.683).abs() < 0.01 && (share(2.0) - 0.954).abs() < 0.01);

        let noisy = draw(Infill { image_noise: 0.03, ..NONE }).images;
        let added = values(IMAGENET.unnormalise(noisy) - IMAGENET.unnormalise(pictures(4, 64)));
        let (mean, deviation) = moments(&added);
        assert!(mean.abs() < 5e-4 && (deviation - 0.015).abs() < 5e-4, "{mean} {deviation}");
        for channel in added.chunks(64 * 64) {
            assert!((moments(channel).1 - 0.015).abs() < 1e-3, "each channel as far in pixels");
        }
    }

    #[test]
    fn half_of_the_fills_are_blurred() {
        let infill = Infill { colour: 0.0, noise: 0.0, ..Infill::default() };
        let fill = infill.draw(pictures(1000, 1), &IMAGENET, (5, "shown", 0), &numbers(1000)).fill;
        let grey = values(IMAGENET.unnormalise(fill)).chunks(3).filter(|p| (p[0] - 0.5).abs() < 1e-6).count();
        assert!((grey as i64 - 500).abs() < 60, "{grey}");
    }

    #[test]
    fn an_images_draws_depend_on_seed_purpose_step_and_image_alone() {
        let images = pictures(3, 8);
        let draw = |seed, purpose, step, rows: std::ops::Range<usize>| {
            let part = images.clone().narrow(0, rows.start, rows.len());
            let Infilled { images, fill } =
                Infill::default().draw(part, &IMAGENET, (seed, purpose, step), &numbers(3)[rows]);
            (values(images), values(fill))
        };
        let (all, fill) = draw(1, "shown", 4, 0..3);
        let (last, last_fill) = draw(1, "shown", 4, 2..3);
        assert_eq!((&all[2 * 192..], &fill[2 * 192..]), (&last[..], &last_fill[..]));
        for other in [draw(2, "shown", 4, 0..3), draw(1, "hidden", 4, 0..3), draw(1, "shown", 5, 0..3)] {
            assert_ne!(other.0, all);
            assert_ne!(other.1, fill);
        }
    }

    #[test]
    fn what_is_shown_is_linear_in_the_mask() {
        let (plain, device) = (Device::default(), Device::default().autodiff());
        let infilled = Infill::default().draw(pictures(2, 8), &IMAGENET, (3, "shown", 0), &numbers(2));
        let [open, shut] = [1.0, 0.0].map(|m| infilled.show(Tensor::full([2, 1, 2, 2], m, &plain)));
        open.into_data().assert_approx_eq::<f32>(&infilled.images.to_data(), Tolerance::absolute(1e-6));
        shut.into_data().assert_approx_eq::<f32>(&infilled.fill.to_data(), Tolerance::absolute(1e-6));
        // A mask of the images' own size: d <shown, w> / dm = sum over channels of w (x - A).
        let mask = Tensor::<4>::full([2, 1, 8, 8], 0.3, &device).require_grad();
        let weights = pictures(2, 8).mul_scalar(0.1);
        let gradients = (infilled.show(mask.clone()) * weights.clone()).sum().backward();
        let expected = ((infilled.images - infilled.fill) * weights).sum_dim(1);
        let found = mask.grad(&gradients).unwrap().into_data();
        found.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }
}
