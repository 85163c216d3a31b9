//! Insertion and deletion (Petsiuk et al., 2018, "RISE"): how fast the classifier's score rises when pixels are inserted,
//! the most important first, and how fast it falls when they are deleted.
//!
//! Pixels change by falling map value, an equal number in each of at most N steps (224 by default: 224 pixels in a step of
//! an image of 224 x 224). Insertion starts at the blurred image and ends at the image. Deletion starts at the image and
//! ends at zeros in normalised space, the data set's mean colour. s_i is the softmax score of the target class after step i
//! of n.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `insertion[@N]` | (sum s_i - s_0/2 - s_n/2) / n | fraction | 0..1 | higher |
//! | `insertion-rise[@N]` | the same, with the blur of RISE's published program | fraction | 0..1 | higher |
//! | `deletion[@N]` | the same | fraction | 0..1 | lower |
//!
//! Both blurs are of the normalised image, with a kernel of 11 x 11 pixels and zeros beyond the edges. `insertion` uses the
//! Gaussian of standard deviation 5, cut off and normalised. RISE's program makes its kernel by filtering an 11 x 11 image
//! of one bright pixel with that Gaussian, reflected at the image's edges; this kernel is almost flat (edge over centre 0.94
//! instead of 0.61 along an axis). Compare with published values by `insertion-rise`.
//!
//! Undefined where the score of any step is not finite.
//!
//! Cost: n forward passes; the score of the clean image is known.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use explainer_zoo::image::gaussian_blur;

use crate::{
    Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, Prediction, Requirement, curves,
};

/// Default number of steps: that of the paper.
pub(crate) const STEPS: usize = 224;
/// Side of the blur's kernel in pixels.
const TAPS: usize = 11;
/// Standard deviation of the blur in pixels.
const SIGMA: f64 = 5.0;
/// Reach of the Gaussian in RISE's program, in pixels: 4 standard deviations, the default of SciPy's `gaussian_filter`.
const RISE_REACH: i64 = 20;

/// The blurred image that insertion starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartBlur {
    /// A normalised Gaussian kernel.
    Gaussian,
    /// The kernel of RISE's published program.
    Rise,
}

/// Insertion.
#[derive(Clone, Debug)]
pub(crate) struct Insertion {
    /// Largest number of steps, at least one.
    pub steps: usize,
    /// What it starts from.
    pub start: StartBlur,
}

/// Deletion.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    /// Largest number of steps, at least one.
    pub steps: usize,
}

impl Metric for Insertion {
    fn spec(&self) -> MetricSpec {
        spec(self.name(), self.steps, Direction::Higher)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(areas(&self.scores(attributions)))
    }

    fn curves(&self, attributions: &MetricInput<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        Some(self.scores(attributions))
    }
}

impl Metric for Deletion {
    fn spec(&self) -> MetricSpec {
        spec("deletion", self.steps, Direction::Lower)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(areas(&self.scores(attributions)))
    }

    fn curves(&self, attributions: &MetricInput<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        Some(self.scores(attributions))
    }
}

impl Insertion {
    fn name(&self) -> &'static str {
        match self.start {
            StartBlur::Gaussian => "insertion",
            StartBlur::Rise => "insertion-rise",
        }
    }

    /// Scores of each map's steps, from the blurred image to the clean one.
    fn scores(&self, attributions: &MetricInput<'_>) -> Rc<Vec<Vec<f64>>> {
        attributions.cache().get_or_compute(&format!("{} {}", self.name(), self.steps), || {
            let counts = counts(attributions.pixels(), self.steps);
            // The last step is the clean image, whose score is known.
            let before = &counts[..counts.len() - 1];
            let batch = attributions.batch();
            let top = attributions.top_pixels(before);
            let predictions = attributions.predict(&top, batch.images(), &blurred(batch, self.start));
            let of_maps = predictions.chunks(before.len()).enumerate();
            of_maps.map(|(map, steps)| scores(steps.iter().copied().chain([attributions.clean(map)]))).collect()
        })
    }
}

impl Deletion {
    /// Scores of each map's steps, from the clean image to zeros.
    fn scores(&self, attributions: &MetricInput<'_>) -> Rc<Vec<Vec<f64>>> {
        attributions.cache().get_or_compute(&format!("deletion {}", self.steps), || {
            let counts = counts(attributions.pixels(), self.steps);
            let after = &counts[1..];
            let images = attributions.batch().images();
            let predictions = attributions.predict(&attributions.top_pixels(after), &images.zeros_like(), images);
            let of_maps = predictions.chunks(after.len()).enumerate();
            of_maps
                .map(|(map, steps)| scores([attributions.clean(map)].into_iter().chain(steps.iter().copied())))
                .collect()
        })
    }
}

fn spec(name: &str, steps: usize, better: Direction) -> MetricSpec {
    MetricSpec {
        name: if steps == STEPS { name.to_owned() } else { format!("{name}@{steps}") },
        title: format!("{name}, area under the score over {steps} steps"),
        family: Family::Faithfulness,
        better,
        unit: "fraction",
        range: [0.0, 1.0],
        source: "Petsiuk et al., 2018",
        passes: steps,
        needs: Requirement::Nothing,
    }
}

/// The blurred images that insertion starts from, `[B,3,H,W]`.
fn blurred(batch: &ImageBatch<'_>, start: StartBlur) -> Rc<Tensor<4>> {
    batch.cache().get_or_compute(&format!("insertion {start:?}"), || match start {
        StartBlur::Gaussian => gaussian_with_zeros(batch),
        StartBlur::Rise => rise_blur(batch.images()),
    })
}

/// The Gaussian blur with zeros beyond the edges.
fn gaussian_with_zeros(batch: &ImageBatch<'_>) -> Tensor<4> {
    let ([height, width], edge) = (batch.size(), TAPS / 2);
    // `gaussian_blur` reflects at the edge. A border of zeros as wide as the kernel's reach keeps the image out of the
    // reflection.
    let inner = [0..batch.len(), 0..3, edge..edge + height, edge..edge + width];
    let padded = Tensor::zeros([batch.len(), 3, height + 2 * edge, width + 2 * edge], &batch.device());
    let padded = padded.slice_assign(inner.clone(), batch.images().clone());
    gaussian_blur(padded, TAPS, SIGMA).slice(inner)
}

/// The blur of RISE's program, with zeros beyond the edges.
fn rise_blur(images: &Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let kernel = rise_kernel();
    let matrix = |n: usize| -> Tensor<2> {
        let weight = |at: usize| kernel.get((at / n + TAPS / 2).wrapping_sub(at % n)).copied().unwrap_or(0.0) as f32;
        Tensor::from_data(TensorData::new((0..n * n).map(weight).collect::<Vec<f32>>(), [n, n]), &images.device())
    };
    let columns = images.clone().reshape([batch * channels * height, width]).matmul(matrix(width).transpose());
    matrix(height).unsqueeze::<4>().matmul(columns.reshape([batch, channels, height, width]))
}

/// One axis of RISE's kernel: a unit impulse in the middle of [`TAPS`] samples after SciPy's `gaussian_filter`, which
/// reflects at the edge and repeats the edge sample (`d c b a | a b c d | d c b a`).
fn rise_kernel() -> [f64; TAPS] {
    let gaussian = |offset: i64| (-0.5 * (offset as f64 / SIGMA).powi(2)).exp();
    let sum: f64 = (-RISE_REACH..=RISE_REACH).map(gaussian).sum();
    let taps = TAPS as i64;
    std::array::from_fn(|sample| {
        let reaches_impulse = |offset: &i64| {
            let folded = (sample as i64 + offset).rem_euclid(2 * taps);
            folded.min(2 * taps - 1 - folded) == taps / 2
        };
        (-RISE_REACH..=RISE_REACH).filter(reaches_impulse).map(gaussian).sum::<f64>() / sum
    })
}

/// Number of changed pixels after each step, from 0 to all; at least two entries.
fn counts(pixels: usize, steps: usize) -> Vec<usize> {
    let each = pixels.div_ceil(steps.max(1)).max(1);
    (0..=pixels.div_ceil(each).max(1)).map(|step| (step * each).min(pixels)).collect()
}

/// NaN where a score is undefined.
fn scores(predictions: impl Iterator<Item = Option<Prediction>>) -> Vec<f64> {
    predictions.map(|prediction| prediction.map_or(f64::NAN, |found| f64::from(found.score))).collect()
}

fn areas(scores: &[Vec<f64>]) -> Vec<Option<f64>> {
    scores.iter().map(|scores| Some(curves::even(scores)).filter(|area| area.is_finite())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, image, map};

    #[test]
    fn steps_are_equal_and_the_last_takes_what_is_left() {
        assert_eq!(counts(4, 224), [0, 1, 2, 3, 4]);
        assert_eq!(counts(10, 4), [0, 3, 6, 9, 10]);
        assert_eq!(counts(10, 1), [0, 10]);
        assert_eq!(counts(224 * 224, 224).len(), 225);
        assert_eq!(counts(224 * 224, 28)[1], 224 * 8);
    }

    #[test]
    fn areas_of_curves_worked_out_by_hand() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.8, 0.4, 0.2, 0.2], [2, 2])); // p = 0.4
        let best = map(&[1.0, 0.5, 0.3, 0.2], [2, 2]);
        let worst = map(&[0.0, 0.5, 0.8, 0.9], [2, 2]);
        let attributions = MetricInput::for_images(&batch, Tensor::cat(vec![best, worst], 0), vec![0, 0]).unwrap();
        let deleted = Deletion { steps: 4 }.measure(&attributions).unwrap();
        let curves = Deletion { steps: 4 }.curves(&attributions).unwrap();
        assert_eq!(curves[0].len(), 5);
        assert!((curves[1][2] - 0.3).abs() < 1e-5, "{curves:?}");
        // Scores 0.4, 0.2, 0.1, 0.05, 0 and 0.4, 0.35, 0.3, 0.2, 0; a clamped logit keeps 0 from being exact.
        for (found, expected) in deleted.iter().zip([0.55 / 4.0, 1.05 / 4.0]) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{deleted:?}");
        }
        let soft: Vec<f64> =
            blurred(&batch, StartBlur::Gaussian).to_data().iter::<f32>().take(4).map(f64::from).collect();
        let sharp = [0.8, 0.4, 0.2, 0.2];
        let inserted = Insertion { steps: 4, start: StartBlur::Gaussian }.measure(&attributions).unwrap();
        for (found, order) in inserted.iter().zip([[0, 1, 2, 3], [3, 2, 1, 0]]) {
            let mut now = soft.clone();
            let mut scores = vec![now.iter().sum::<f64>() / 4.0];
            for pixel in order {
                now[pixel] = sharp[pixel];
                scores.push(now.iter().sum::<f64>() / 4.0);
            }
            let expected = (scores.iter().sum::<f64>() - scores[0] / 2.0 - scores[4] / 2.0) / 4.0;
            assert!((found.unwrap() - expected).abs() < 1e-5, "{inserted:?}");
        }
        assert!(inserted[0] > inserted[1] && deleted[0] < deleted[1]);
    }

    #[test]
    fn the_blur_sees_zeros_beyond_the_edge() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.5, 0.25], [1, 2]));
        let soft: Vec<f64> =
            blurred(&batch, StartBlur::Gaussian).to_data().iter::<f32>().take(2).map(f64::from).collect();
        let weight = |distance: f64| (-distance * distance / 50.0).exp();
        let sum: f64 = (-5..=5).map(|k| weight(f64::from(k))).sum();
        let (here, beside) = (1.0 / (sum * sum), weight(1.0) / (sum * sum));
        for (found, expected) in soft.iter().zip([0.5 * here + 0.25 * beside, 0.25 * here + 0.5 * beside]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn the_kernel_of_rises_program_is_scipys() {
        // scipy.ndimage.gaussian_filter1d of an impulse in the middle of 11 samples, sigma 5.
        let kernel = rise_kernel();
        let half = [
            0.087_958_145_777_278_15,
            0.088_896_119_777_094_84,
            0.090_474_196_549_108_65,
            0.092_191_117_819_388_06,
            0.093_489_388_442_914_09,
            0.093_982_063_268_432_49,
        ];
        for (sample, found) in kernel.iter().enumerate() {
            let expected = half[sample.min(10 - sample)];
            assert!((found - expected).abs() < 1e-14, "{sample}: {found} {expected}");
        }
        assert!((kernel.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((kernel[0] / kernel[5] - 0.94).abs() < 0.005, "{kernel:?}");
    }

    #[test]
    fn the_blur_of_rises_program_is_its_convolution() {
        // Of a single bright pixel, the blur is the kernel around it, cut off at the image's edge.
        let (side, centre) = (8, [2, 5]);
        let mut pixels = vec![0.0; side * side];
        pixels[centre[0] * side + centre[1]] = 1.0;
        let backbone = brightness();
        let batch = batch(&backbone, image(&pixels, [side; 2]));
        let kernel = rise_kernel();
        let found: Vec<f32> = blurred(&batch, StartBlur::Rise).to_data().iter().collect();
        for (i, found) in found.iter().enumerate() {
            let weight = |at: usize, centre: usize| kernel.get((at + 5).wrapping_sub(centre)).copied().unwrap_or(0.0);
            let expected = weight(i / side % side, centre[0]) * weight(i % side, centre[1]);
            assert!((f64::from(*found) - expected).abs() < 1e-7, "{i}: {found} {expected}");
        }
        let attributions = MetricInput::new(&batch, map(&pixels, [side; 2])).unwrap();
        let [rise, gaussian] = [StartBlur::Rise, StartBlur::Gaussian]
            .map(|start| Insertion { steps: 4, start }.measure(&attributions).unwrap()[0]);
        assert!(rise.is_some() && rise != gaussian, "{rise:?} {gaussian:?}");
    }

    #[test]
    fn the_default_number_of_steps_has_no_suffix() {
        assert_eq!(Insertion { steps: 224, start: StartBlur::Gaussian }.spec().name, "insertion");
        assert_eq!(Insertion { steps: 28, start: StartBlur::Rise }.spec().name, "insertion-rise@28");
        assert_eq!(Deletion { steps: 28 }.spec().name, "deletion@28");
        assert_eq!(Deletion { steps: 28 }.spec().passes, 28);
    }
}
