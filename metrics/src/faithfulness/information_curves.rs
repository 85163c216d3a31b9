//! Performance information curves (Kapishnikov et al., 2019, "XRAI"): the classifier's prediction against the amount of
//! information of the image that is shown.
//!
//! The most important pixels, 0.5 to 75 percent of them in 13 steps, are shown over a blurred image (Gaussian, kernel
//! 55, sigma 11). The information of an image is the number of bytes of its 8-bit RGB in lossless WebP (encoder of the
//! `image` crate). With the blurred image b and the clean one o, x = (bytes - bytes_b) / (bytes_o - bytes_b), limited to
//! 0..1. The value is the area under the points in order of x by the trapezoidal rule, from x = 0 (the blurred image) to
//! x = 1 (the clean one).
//!
//! | metric | y | first y | last y | unit | range | better |
//! |---|---|---|---|---|---|---|
//! | `aic` | 1 where the target class is predicted, else 0 | of the blurred image | of the clean one | fraction | 0..1 | higher |
//! | `sic` | running maximum of (p - p_b) / (p_o - p_b), limited to 0..1 | 0 | 1 | fraction | 0..1 | higher |
//!
//! p is the softmax score of the target class. Undefined where the blurred image's file is not smaller than the clean one's,
//! and where any score is not finite; `sic` also where the blurred image's score is not below the clean one's.
//!
//! Cost: 14 forward passes, which both share.

use std::rc::Rc;

use burn::tensor::Tensor;
use image::{ExtendedColorType, codecs::webp::WebPEncoder};

use crate::image_batch::select;
use crate::{
    Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, Prediction, Requirement, curves,
};

/// Shares of the pixels shown, in percent.
const PERCENTS: [f64; 13] = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 13.0, 21.0, 34.0, 50.0, 75.0];
/// Side of the blur's kernel and its standard deviation, in pixels.
const BLUR: (usize, f64) = (55, 11.0);

/// Area under the accuracy information curve.
#[derive(Clone, Debug)]
pub(crate) struct Aic;

/// Area under the softmax information curve.
#[derive(Clone, Debug)]
pub(crate) struct Sic;

impl Metric for Aic {
    fn spec(&self) -> MetricSpec {
        spec("aic", "area under the accuracy information curve")
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let predicted = |found: &Prediction| f64::from(u8::from(found.top));
        areas(attributions, |blurred, steps, clean| {
            Some((predicted(blurred), steps.iter().map(predicted).collect(), predicted(clean)))
        })
    }
}

impl Metric for Sic {
    fn spec(&self) -> MetricSpec {
        spec("sic", "area under the softmax information curve")
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        areas(attributions, |blurred, steps, clean| {
            let (low, high) = (f64::from(blurred.score), f64::from(clean.score));
            let share = |step: &Prediction| ((f64::from(step.score) - low) / (high - low)).clamp(0.0, 1.0);
            let running_maximum = |most: &mut f64, step: &Prediction| {
                *most = most.max(share(step));
                Some(*most)
            };
            (low < high).then(|| (0.0, steps.iter().scan(0.0, running_maximum).collect(), 1.0))
        })
    }
}

fn spec(name: &str, title: &str) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        family: Family::Faithfulness,
        better: Direction::Higher,
        unit: "fraction",
        range: [0.0, 1.0],
        source: "Kapishnikov et al., 2019",
        passes: PERCENTS.len() + 1,
        needs: Requirement::Nothing,
    }
}

/// Predictions for the blurred and the clean version of an image, and the bytes of the two.
#[derive(Clone, Copy, Debug)]
struct Ends {
    blurred: Option<Prediction>,
    clean: Option<Prediction>,
    bytes: [usize; 2],
}

/// Predictions for the steps of all maps, and the bytes of their images; 13 for each map.
type Steps = Vec<(Option<Prediction>, usize)>;

/// Areas under the curves. `heights` returns the first y, those of the steps, and the last one, from the predictions for the
/// blurred image, the steps and the clean image; `None` where the curve is undefined.
fn areas(
    attributions: &MetricInput<'_>,
    heights: impl Fn(&Prediction, &[Prediction], &Prediction) -> Option<(f64, Vec<f64>, f64)>,
) -> Result<Vec<Option<f64>>, MetricError> {
    let ends = ends(attributions.batch())?;
    let steps = steps(attributions)?;
    let area = |(image, steps): (&usize, &[(Option<Prediction>, usize)])| {
        let ends = ends.get(*image)?;
        let (predictions, bytes): (Vec<Option<Prediction>>, Vec<usize>) = steps.iter().copied().unzip();
        let predictions: Vec<Prediction> = predictions.into_iter().collect::<Option<_>>()?;
        let (first, heights, last) = heights(&ends.blurred?, &predictions, &ends.clean?)?;
        area(ends.bytes, &bytes, first, &heights, last)
    };
    Ok(attributions.image_indices().iter().zip(steps.chunks(PERCENTS.len())).map(area).collect())
}

/// Area under the points (information, height) of the steps between `first` and `last`; `ends` are the bytes of the
/// blurred and of the clean image. `None` if the blurred image is not the smaller one.
fn area(ends: [usize; 2], bytes: &[usize], first: f64, heights: &[f64], last: f64) -> Option<f64> {
    let [low, high] = ends.map(|bytes| bytes as f64);
    let x = |bytes: usize| ((bytes as f64 - low) / (high - low)).clamp(0.0, 1.0);
    let mut points: Vec<(f64, f64)> = bytes.iter().map(|bytes| x(*bytes)).zip(heights.iter().copied()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let points: Vec<_> = [(0.0, first)].into_iter().chain(points).chain([(1.0, last)]).collect();
    (low < high).then(|| curves::trapezoid(&points))
}

fn ends(batch: &ImageBatch<'_>) -> Result<Vec<Ends>, MetricError> {
    let computed: Rc<Result<Vec<Ends>, MetricError>> = batch.cache().get_or_compute("information", || {
        let blurred = batch.blurred(BLUR.0, BLUR.1);
        let all: Vec<usize> = (0..batch.len()).collect();
        let predictions = batch.predict(&all, |range| select(&blurred, &all[range]));
        let bytes = webp_sizes(batch, &blurred)?.into_iter().zip(webp_sizes(batch, batch.images())?);
        let ends = |((image, blurred), bytes): ((usize, Option<Prediction>), (usize, usize))| Ends {
            blurred,
            clean: batch.clean(image),
            bytes: [bytes.0, bytes.1],
        };
        Ok(predictions.into_iter().enumerate().zip(bytes).map(ends).collect())
    });
    (*computed).clone()
}

fn steps(attributions: &MetricInput<'_>) -> Result<Steps, MetricError> {
    let computed: Rc<Result<Steps, MetricError>> = attributions.cache().get_or_compute("information", || {
        let batch = attributions.batch();
        let blurred = batch.blurred(BLUR.0, BLUR.1);
        let top = attributions.top_pixels(&PERCENTS.map(|percent| attributions.pixel_count(percent)));
        let mut bytes = Ok(Vec::with_capacity(top.len()));
        let predictions = attributions.predict_with(&top, |top| {
            let shown = attributions.composite(top, batch.images(), &blurred);
            if let Ok(all) = &mut bytes {
                match webp_sizes(batch, &shown) {
                    Ok(sizes) => all.extend(sizes),
                    Err(error) => bytes = Err(error),
                }
            }
            shown
        });
        Ok(predictions.into_iter().zip(bytes?).collect())
    });
    (*computed).clone()
}

/// Bytes of each of the normalised images `[n,3,H,W]` as a WebP file.
fn webp_sizes(batch: &ImageBatch<'_>, images: &Tensor<4>) -> Result<Vec<usize>, MetricError> {
    let [height, width] = batch.size();
    let values: Vec<f32> = batch.preprocessing().unnormalise(images.clone()).into_data().iter::<f32>().collect();
    values.chunks(3 * height * width).map(|image| webp_size(image, height, width)).collect()
}

/// Bytes of an image `[3,H,W]` in 0..=1 as a lossless WebP file of 8 bits a value.
fn webp_size(image: &[f32], height: usize, width: usize) -> Result<usize, MetricError> {
    let plane = height * width;
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let pixel = |i: usize| [0, 1, 2].map(|channel| image.get(channel * plane + i).map_or(0, |value| byte(*value)));
    let pixels: Vec<u8> = (0..plane).flat_map(pixel).collect();
    let mut file = Vec::new();
    WebPEncoder::new_lossless(&mut file)
        .encode(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| MetricError::Compress(error.to_string()))?;
    Ok(file.len())
}

#[cfg(test)]
mod tests {
    use explainer_zoo::random::stream;
    use rand::Rng;

    use super::*;
    use crate::testing::{batch, brightness, brightness_of_squares, image, map};

    const SIDE: usize = 64;

    #[test]
    fn noise_takes_more_bytes_than_grey() {
        let mut random = stream(0, "noise", &[]);
        let noise: Vec<f32> = (0..3 * SIDE * SIDE).map(|_| random.next_u32() as f32 / u32::MAX as f32).collect();
        let noisy = webp_size(&noise, SIDE, SIDE).unwrap();
        let grey = webp_size(&[0.5; 3 * SIDE * SIDE], SIDE, SIDE).unwrap();
        // Noise of 8 bits a value cannot be compressed.
        assert!(noisy >= 3 * SIDE * SIDE && grey < 200, "{noisy} {grey}");
        assert_eq!(webp_size(&noise, SIDE, SIDE).unwrap(), noisy);
    }

    #[test]
    fn areas_of_curves_worked_out_by_hand() {
        // x = 0.25, 0.5 and, out of order, 0.1; beyond the ends x is limited.
        let steps = ([125, 150, 110], [0.5, 0.5, 0.25]);
        let expected = 0.1 * 0.125 + 0.15 * 0.375 + 0.25 * 0.5 + 0.5 * 0.75;
        let found = area([100, 200], &steps.0, 0.0, &steps.1, 1.0).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found}");
        assert_eq!(area([100, 200], &[50, 300], 0.0, &[0.5, 1.0], 1.0), Some(0.75));
        assert_eq!(area([100, 100], &[100], 0.0, &[0.5], 1.0), None);
    }

    #[test]
    fn showing_what_matters_first_gives_the_larger_area() {
        // Dark and bright dots. The classifier counts squares, so a blur costs it score, and bright dots matter.
        let bright = |i: usize| i.wrapping_mul(2_654_435_761) >> 9 & 3 == 0;
        let pixels: Vec<f32> = (0..SIDE * SIDE).map(|i| if bright(i) { 1.0 } else { 0.1 }).collect();
        let backbone = brightness_of_squares();
        let batch = batch(&backbone, image(&pixels, [SIDE, SIDE]));
        let against: Vec<f32> = pixels.iter().map(|v| 1.0 - v).collect();
        let maps = Tensor::cat(vec![map(&pixels, [SIDE, SIDE]), map(&against, [SIDE, SIDE])], 0);
        let attributions = MetricInput::for_images(&batch, maps, vec![0, 0]).unwrap();
        let [Some(with), Some(against)] = Sic.measure(&attributions).unwrap()[..] else {
            panic!("the curves are defined")
        };
        assert!((0.0..=1.0).contains(&against) && with <= 1.0 && with > against + 0.1, "{with} {against}");
        // The whole image is not of class 0 (its mean square is about 1/4), nor is any step of the second map.
        assert_eq!(Aic.measure(&attributions).unwrap()[1], Some(0.0));
    }

    #[test]
    fn an_image_of_one_colour_has_no_curve() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.75; 256], [16, 16]));
        let attributions = MetricInput::new(&batch, map(&[0.5; 256], [16, 16])).unwrap();
        assert_eq!(
            (Aic.measure(&attributions).unwrap(), Sic.measure(&attributions).unwrap()),
            (vec![None], vec![None])
        );
    }
}
