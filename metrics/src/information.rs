//! Performance information curves (Kapishnikov et al., 2019): what the classifier makes of an image against how much
//! information of it is shown.
//!
//! The most important pixels, 0.5 to 75 percent of them in 13 steps, are shown over a blurred image (Gaussian, kernel
//! 55, sigma 11). The information of an image is the number of bytes that lossless WebP (the encoder of the `image`
//! crate) needs for its 8-bit RGB. With the blurred image b and the whole one o, x = (bytes - bytes_b) / (bytes_o -
//! bytes_b), limited to 0..1. The value is the area by trapezoids under the points in order of x, between the first
//! (x = 0, the blurred image) and the last (x = 1, the whole one).
//!
//! | metric | y | first y | last y | unit | range | better |
//! |---|---|---|---|---|---|---|
//! | `aic` | 1 where the explained class is predicted, else 0 | of the blurred image | of the whole one | fraction | 0..1 | higher |
//! | `sic` | running maximum of (p - p_b) / (p_o - p_b), limited to 0..1 | 0 | 1 | fraction | 0..1 | higher |
//!
//! p is the softmax score of the explained class. Undefined where blurring does not make the file smaller; for `sic`
//! also where the blurred image has at least the score of the whole one.
//!
//! Cost: 14 forward passes, which both share.

use std::rc::Rc;

use burn::tensor::Tensor;
use image::{ExtendedColorType, codecs::webp::WebPEncoder};

use super::{Attributions, Better, ImageBatch, Metric, MetricError, MetricSpec, Needs, Prediction, curve};

/// Shares of pixels shown, in percent.
const PERCENTS: [f64; 13] = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 13.0, 21.0, 34.0, 50.0, 75.0];
/// Taps and standard deviation (pixels) of the blur.
const BLUR: (usize, f64) = (55, 11.0);

/// Area under the accuracy information curve.
#[derive(Clone, Debug)]
pub(super) struct Aic;

/// Area under the softmax information curve.
#[derive(Clone, Debug)]
pub(super) struct Sic;

impl Metric for Aic {
    fn spec(&self) -> MetricSpec {
        spec("aic", "accuracy information curve, area")
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let kept = |look: &Prediction| f64::from(u8::from(look.top));
        areas(case, |ends, looks| Some((kept(&ends.blurred), looks.iter().map(kept).collect(), kept(&ends.whole))))
    }
}

impl Metric for Sic {
    fn spec(&self) -> MetricSpec {
        spec("sic", "softmax information curve, area")
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        areas(case, |ends, looks| {
            let (low, high) = (f64::from(ends.blurred.score), f64::from(ends.whole.score));
            let share = |look: &Prediction| ((f64::from(look.score) - low) / (high - low)).clamp(0.0, 1.0);
            let best = |most: &mut f64, look: &Prediction| {
                *most = most.max(share(look));
                Some(*most)
            };
            (low < high).then(|| (0.0, looks.iter().scan(0.0, best).collect(), 1.0))
        })
    }
}

fn spec(name: &str, title: &str) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        better: Better::Higher,
        unit: "fraction",
        range: [0.0, 1.0],
        source: "Kapishnikov et al., 2019",
        passes: PERCENTS.len() + 1,
        needs: Needs::Nothing,
    }
}

/// Where the curves of an image begin and end.
#[derive(Clone, Copy, Debug)]
struct Ends {
    blurred: Prediction,
    whole: Prediction,
    /// Bytes of the blurred and of the whole image.
    bytes: [usize; 2],
}

/// What the classifier makes of the steps of all maps, and the bytes of each; 13 a map.
type Steps = Vec<(Prediction, usize)>;

/// Areas under curves: `heights` gives the first y, those of the steps, and the last, or nothing if it is undefined.
fn areas(
    case: &Attributions<'_>,
    heights: impl Fn(&Ends, &[Prediction]) -> Option<(f64, Vec<f64>, f64)>,
) -> Result<Vec<Option<f64>>, MetricError> {
    let ends = ends(case.subject())?;
    let steps = steps(case)?;
    let area = |(image, steps): (&usize, &[(Prediction, usize)])| {
        let ends = ends.get(*image)?;
        let (looks, bytes): (Vec<Prediction>, Vec<usize>) = steps.iter().copied().unzip();
        let (first, heights, last) = heights(ends, &looks)?;
        area(ends.bytes, &bytes, first, &heights, last)
    };
    Ok(case.images().iter().zip(steps.chunks(PERCENTS.len())).map(area).collect())
}

/// Area under the points (information, height) of the steps between `first` and `last`; `ends` are the bytes of the
/// blurred and of the whole image. Nothing if the blurred image is not the smaller one.
fn area(ends: [usize; 2], bytes: &[usize], first: f64, heights: &[f64], last: f64) -> Option<f64> {
    let [low, high] = ends.map(|bytes| bytes as f64);
    let x = |bytes: usize| ((bytes as f64 - low) / (high - low)).clamp(0.0, 1.0);
    let mut points: Vec<(f64, f64)> = bytes.iter().map(|bytes| x(*bytes)).zip(heights.iter().copied()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let points: Vec<_> = [(0.0, first)].into_iter().chain(points).chain([(1.0, last)]).collect();
    (low < high).then(|| curve::trapezoid(&points))
}

fn ends(subject: &ImageBatch<'_>) -> Result<Vec<Ends>, MetricError> {
    let made: Rc<Result<Vec<Ends>, MetricError>> = subject.memo().get("information", || {
        let blurred = subject.blurred(BLUR.0, BLUR.1);
        let all: Vec<usize> = (0..subject.len()).collect();
        let looks = subject.predict(&all, |range| super::image_batch::pick(&blurred, &all[range]));
        let bytes = sizes(subject, &blurred)?.into_iter().zip(sizes(subject, subject.images())?);
        let ends = |((image, blurred), bytes): ((usize, Prediction), (usize, usize))| Ends {
            blurred,
            whole: subject.clean(image),
            bytes: [bytes.0, bytes.1],
        };
        Ok(looks.into_iter().enumerate().zip(bytes).map(ends).collect())
    });
    (*made).clone()
}

fn steps(case: &Attributions<'_>) -> Result<Steps, MetricError> {
    let made: Rc<Result<Steps, MetricError>> = case.memo().get("information", || {
        let subject = case.subject();
        let blurred = subject.blurred(BLUR.0, BLUR.1);
        let frames = case.frames(&PERCENTS.map(|percent| case.share(percent)));
        let mut bytes = Ok(Vec::with_capacity(frames.len()));
        let looks = case.predict_with(&frames, |frames| {
            let shown = case.blend(frames, subject.images(), &blurred);
            if let Ok(all) = &mut bytes {
                match sizes(subject, &shown) {
                    Ok(some) => all.extend(some),
                    Err(error) => bytes = Err(error),
                }
            }
            shown
        });
        Ok(looks.into_iter().zip(bytes?).collect())
    });
    (*made).clone()
}

/// Bytes of each of some normalised images `[n,3,H,W]` as a WebP file.
fn sizes(subject: &ImageBatch<'_>, images: &Tensor<4>) -> Result<Vec<usize>, MetricError> {
    let [height, width] = subject.size();
    let values: Vec<f32> = subject.preprocessing().unnormalise(images.clone()).into_data().iter::<f32>().collect();
    let plane = height * width;
    values.chunks(3 * plane).map(|image| webp(image, height, width)).collect()
}

/// Bytes of an image `[3,H,W]` in 0..1 as a lossless WebP file of 8 bits a value.
fn webp(image: &[f32], height: usize, width: usize) -> Result<usize, MetricError> {
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
    use rand::Rng;

    use super::super::testing::{Brightness, image, map, subject};
    use super::*;
    use explainer_zoo::random::stream;

    const SIDE: usize = 64;

    #[test]
    fn noise_takes_more_bytes_than_grey() {
        let mut random = stream(0, "noise", &[]);
        let noise: Vec<f32> = (0..3 * SIDE * SIDE).map(|_| random.next_u32() as f32 / u32::MAX as f32).collect();
        let noisy = webp(&noise, SIDE, SIDE).unwrap();
        let grey = webp(&[0.5; 3 * SIDE * SIDE], SIDE, SIDE).unwrap();
        // Noise of 8 bits a value cannot be compressed.
        assert!(noisy >= 3 * SIDE * SIDE && grey < 200, "{noisy} {grey}");
        assert_eq!(webp(&noise, SIDE, SIDE).unwrap(), noisy);
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
        let backbone = Brightness::squared();
        let subject = subject(&backbone, image(&pixels, [SIDE, SIDE]));
        let against: Vec<f32> = pixels.iter().map(|v| 1.0 - v).collect();
        let maps = Tensor::cat(vec![map(&pixels, [SIDE, SIDE]), map(&against, [SIDE, SIDE])], 0);
        let case = Attributions::of(&subject, maps, vec![0, 0]).unwrap();
        let [Some(by), Some(against)] = Sic.measure(&case).unwrap()[..] else { panic!("the curves are defined") };
        assert!((0.0..=1.0).contains(&against) && by <= 1.0 && by > against + 0.1, "{by} {against}");
        // The whole image is not of class 0 (its mean square is about 1/4), nor is any step of the second map.
        assert_eq!(Aic.measure(&case).unwrap()[1], Some(0.0));
    }

    #[test]
    fn an_image_of_one_colour_has_no_curve() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.75; 256], [16, 16]));
        let case = Attributions::new(&subject, map(&[0.5; 256], [16, 16])).unwrap();
        assert_eq!((Aic.measure(&case).unwrap(), Sic.measure(&case).unwrap()), (vec![None], vec![None]));
    }
}
