//! ROAD, remove and debias (Rong et al., 2022): whether the classifier keeps to its class when pixels are taken from the
//! image and their places filled in from what is around them, so that the shape of the hole gives nothing away.
//!
//! The most important pixels go first (MoRF), or the least important ones (LeRF). Two imputers fill in, both on values
//! in 0..1 before normalisation:
//! - noisy linear, the default: every removed pixel is the weighted mean of its eight neighbours, a sparse system of
//!   linear equations ([`linear`]), plus noise of standard deviation 0.01, which is always the same for an image;
//! - Telea's in-painting, radius 3 ([`telea`]).
//!
//! At each percentage the explained class is predicted (1) or not (0). `@` says which percentages are removed:
//!
//! | | removed | value |
//! |---|---|---|
//! | nothing, `@ptame` | 10, 30, 50, 70 percent | area by trapezoids over the share removed, from (0, 1) to (1, 0) |
//! | `@ttame` | 10, 20, 30, 40, 50, 70, 90 percent (percentiles 90 to 10) | mean |
//! | `@V` | V percent | 1 or 0 |
//!
//! | metric | first to go | imputer | unit | range | better |
//! |---|---|---|---|---|---|
//! | `road-morf` | the most important | noisy linear | fraction | 0.05..0.85 (area), else 0..1 | lower |
//! | `road-lerf` | the least important | noisy linear | fraction | the same | higher |
//! | `road-morf-telea` | the most important | Telea | fraction | the same | lower |
//! | `road-lerf-telea` | the least important | Telea | fraction | the same | higher |
//!
//! Cost: a forward pass for each percentage.

mod linear;
mod telea;

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{Attributions, Better, Frame, ImageBatch, Metric, MetricError, MetricSpec, Needs, Prediction, curve};
use explainer_zoo::random::stream;

/// Percentages removed in the P-TAME paper.
const PTAME: [f64; 4] = [10.0, 30.0, 50.0, 70.0];
/// Percentages removed in the T-TAME paper.
const TTAME: [f64; 7] = [10.0, 20.0, 30.0, 40.0, 50.0, 70.0, 90.0];
/// Standard deviation of the noise on what the linear imputer fills in.
const NOISE: f32 = 0.01;

/// How removed pixels are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Imputer {
    /// Noisy linear imputation.
    Linear,
    /// Telea's in-painting.
    Telea,
}

/// Which pixels go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The most important ones (MoRF).
    Most,
    /// The least important ones (LeRF).
    Least,
}

/// Percentages removed, and what is made of the classifier's answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Removed {
    /// P-TAME's, area.
    Ptame,
    /// T-TAME's, mean.
    Ttame,
    /// This one, in percent, above 0 and below 100.
    Percent(f64),
}

impl Removed {
    fn percents(&self) -> Vec<f64> {
        match self {
            Self::Ptame => PTAME.to_vec(),
            Self::Ttame => TTAME.to_vec(),
            Self::Percent(percent) => vec![*percent],
        }
    }
}

/// ROAD.
#[derive(Clone, Debug)]
pub(super) struct Road {
    pub first: First,
    pub imputer: Imputer,
    pub removed: Removed,
}

impl Metric for Road {
    fn spec(&self) -> MetricSpec {
        let (order, words, better) = match self.first {
            First::Most => ("morf", "most", Better::Lower),
            First::Least => ("lerf", "least", Better::Higher),
        };
        let (imputer, filled) = match self.imputer {
            Imputer::Linear => ("", "noisy linear imputation"),
            Imputer::Telea => ("-telea", "Telea's in-painting"),
        };
        let (suffix, measure, range) = match &self.removed {
            Removed::Ptame => (String::new(), "area".to_owned(), [0.05, 0.85]),
            Removed::Ttame => ("@ttame".to_owned(), "mean over T-TAME's percentages".to_owned(), [0.0, 1.0]),
            Removed::Percent(percent) => (format!("@{percent}"), format!("{percent}% removed"), [0.0, 1.0]),
        };
        MetricSpec {
            name: format!("road-{order}{imputer}{suffix}"),
            title: format!("ROAD, {words} relevant first, {filled}, {measure}"),
            better,
            unit: "fraction",
            range,
            source: "Rong et al., 2022",
            passes: self.removed.percents().len(),
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let percents = self.removed.percents();
        let key = format!("road {:?} {:?} {percents:?}", self.first, self.imputer);
        let made: Rc<Result<Vec<Prediction>, MetricError>> = case.memo().get(&key, || self.looks(case, &percents));
        let looks = made.as_ref().as_ref().map_err(Clone::clone)?;
        Ok(looks.chunks(percents.len()).map(|looks| Some(self.value(&percents, looks))).collect())
    }
}

impl Road {
    fn value(&self, percents: &[f64], looks: &[Prediction]) -> f64 {
        let kept = looks.iter().map(|look| f64::from(u8::from(look.top)));
        match self.removed {
            Removed::Ptame => {
                let points = percents.iter().map(|percent| percent / 100.0).zip(kept);
                curve::trapezoid(&[(0.0, 1.0)].into_iter().chain(points).chain([(1.0, 0.0)]).collect::<Vec<_>>())
            }
            Removed::Ttame | Removed::Percent(_) => kept.sum::<f64>() / percents.len() as f64,
        }
    }

    fn looks(&self, case: &Attributions<'_>, percents: &[f64]) -> Result<Vec<Prediction>, MetricError> {
        let subject = case.subject();
        let [height, width] = subject.size();
        let counts: Vec<usize> = percents.iter().map(|percent| case.share(*percent)).collect();
        let images = pixels(subject);
        let images: &[Vec<f32>] = &images;
        let mut failure = None;
        let looks = case.predict_with(&case.frames(&counts), |frames| {
            // The case itself cannot be shared between threads.
            let holes: Vec<(usize, Vec<bool>)> = frames.iter().map(|frame| self.hole(case, *frame)).collect();
            let filled: Vec<Result<Vec<f32>, MetricError>> = holes
                .into_par_iter()
                .map(|(image, hole)| {
                    let whole = images.get(image).map_or(&[][..], Vec::as_slice);
                    self.fill(whole, &hole, [height, width])
                })
                .collect();
            let mut values = Vec::with_capacity(frames.len() * 3 * height * width);
            for filled in filled {
                match filled {
                    Ok(image) => values.extend(image),
                    Err(error) => failure = Some(error),
                }
            }
            // Nothing that was looked at counts after a failure.
            values.resize(frames.len() * 3 * height * width, 0.0);
            let images =
                Tensor::from_data(TensorData::new(values, [frames.len(), 3, height, width]), &subject.device());
            subject.preprocessing().normalise(images)
        });
        failure.map_or(Ok(looks), Err)
    }

    /// The image of a frame, and which of its pixels are removed.
    fn hole(&self, case: &Attributions<'_>, frame: Frame) -> (usize, Vec<bool>) {
        let order = case.order(frame.map);
        let count = frame.count.min(order.len());
        let gone = match self.first {
            First::Most => &order[..count],
            First::Least => &order[order.len() - count..],
        };
        let mut hole = vec![false; order.len()];
        gone.iter().for_each(|pixel| hole[*pixel as usize] = true);
        (case.images().get(frame.map).copied().unwrap_or_default(), hole)
    }

    /// An image `[3,H,W]` in 0..1 with the hole filled in.
    fn fill(&self, image: &[f32], hole: &[bool], size: [usize; 2]) -> Result<Vec<f32>, MetricError> {
        match self.imputer {
            Imputer::Telea => Ok(telea::inpaint(image, hole, size)),
            Imputer::Linear => {
                let mut filled = linear::impute(image, hole, size)?;
                let mut noise = Normal::of(image);
                for (value, gone) in filled.iter_mut().zip(hole.iter().cycle()) {
                    let noise = noise.next(); // drawn for each pixel, so that a pixel's noise does not depend on the hole
                    if *gone {
                        *value += NOISE * noise;
                    }
                }
                Ok(filled)
            }
        }
    }
}

/// The images' values in 0..1, `[3,H,W]` each.
fn pixels(subject: &ImageBatch<'_>) -> Rc<Vec<Vec<f32>>> {
    subject.memo().get("pixels", || {
        let [height, width] = subject.size();
        let images = subject.preprocessing().unnormalise(subject.images().clone());
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        values.chunks((3 * height * width).max(1)).map(<[f32]>::to_vec).collect()
    })
}

/// Standard normal numbers that depend on an image alone, not on its place in a batch.
struct Normal {
    random: rand_chacha::ChaCha8Rng,
    spare: Option<f32>,
}

impl Normal {
    fn of(image: &[f32]) -> Self {
        let step = |hash: u64, value: &f32| (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        let hash = image.iter().fold(0xcbf2_9ce4_8422_2325, step);
        Self { random: stream(0, "road", &[hash]), spare: None }
    }

    /// By the method of Box and Muller, which makes two at a time.
    fn next(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let mut uniform = || (f64::from(self.random.next_u32()) + 0.5) / 4_294_967_296.0;
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        self.spare = Some((radius * angle.sin()) as f32);
        (radius * angle.cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, map, subject};
    use super::*;

    fn road(first: First, imputer: Imputer, removed: Removed) -> Road {
        Road { first, imputer, removed }
    }

    /// 16 x 16 pixels: the upper three quarters 0.8, the rest 0.1.
    fn scene() -> Vec<f32> {
        (0..256).map(|i| if i < 192 { 0.8 } else { 0.1 }).collect()
    }

    #[test]
    fn removal_of_what_matters_costs_the_class() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&scene(), [16, 16])); // mean 0.625: class 0
        let falling: Vec<f32> = (0..256).map(|i| 256.0 - i as f32).collect();
        let case = Attributions::new(&subject, map(&falling, [16, 16])).unwrap();
        for imputer in [Imputer::Linear, Imputer::Telea] {
            let at = |first, percent| road(first, imputer, Removed::Percent(percent)).measure(&case).unwrap()[0];
            // Without the upper half, the rest of the bright part fills it in again: 0.8 as before.
            assert_eq!(at(First::Most, 50.0), Some(1.0), "{imputer:?}");
            // Without the upper three quarters and a little more, only the dark part is left to fill in from.
            assert_eq!(at(First::Most, 80.0), Some(0.0), "{imputer:?}");
            // The other way round the image becomes brighter.
            assert_eq!(at(First::Least, 50.0), Some(1.0), "{imputer:?}");
            // Ones at 10, 30, 50 and 70 percent, where a little of the bright part is left; then down to 0 at 100.
            assert_eq!(at(First::Most, 70.0), Some(1.0), "{imputer:?}");
            let area = road(First::Most, imputer, Removed::Ptame).measure(&case).unwrap()[0].unwrap();
            assert!((area - 0.85).abs() < 1e-12, "{imputer:?}: {area}");
            // T-TAME's percentages: all but 90.
            let mean = road(First::Most, imputer, Removed::Ttame).measure(&case).unwrap()[0].unwrap();
            assert!((mean - 6.0 / 7.0).abs() < 1e-12, "{imputer:?}: {mean}");
        }
    }

    #[test]
    fn the_area_of_a_curve_worked_out_by_hand() {
        let look = |top| Prediction { score: 0.5, top };
        let looks = [true, true, false, false].map(look);
        // (0,1) (0.1,1) (0.3,1) (0.5,0) (0.7,0) (1,0).
        let area = road(First::Most, Imputer::Linear, Removed::Ptame).value(&PTAME, &looks);
        assert!((area - 0.4).abs() < 1e-12, "{area}");
    }

    #[test]
    fn noise_depends_on_the_image_alone_and_is_of_its_size() {
        let draw = |image: &[f32]| {
            let mut normal = Normal::of(image);
            (0..10_000).map(|_| normal.next()).collect::<Vec<f32>>()
        };
        let numbers = draw(&[0.5; 12]);
        assert_eq!(numbers, draw(&[0.5; 12]));
        assert_ne!(numbers[..8], draw(&[0.25; 12])[..8]);
        let mean = numbers.iter().sum::<f32>() / 1e4;
        let variance = numbers.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{mean} {variance}");

        let road = road(First::Most, Imputer::Linear, Removed::Ptame);
        let flat = [0.5_f32; 3 * 400];
        let hole: Vec<bool> = (0..400).map(|i| (100..300).contains(&i)).collect();
        let filled = road.fill(&flat, &hole, [20, 20]).unwrap();
        let off: Vec<f32> =
            filled.iter().zip(hole.iter().cycle()).filter(|(_, gone)| **gone).map(|(v, _)| v - 0.5).collect();
        let spread = (off.iter().map(|v| v * v).sum::<f32>() / off.len() as f32).sqrt();
        assert!((spread - NOISE).abs() < 0.001, "{spread}");
        assert!(filled.iter().zip(hole.iter().cycle()).all(|(value, gone)| *gone || *value == 0.5));
    }
}
