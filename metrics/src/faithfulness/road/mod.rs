//! ROAD, remove and debias (Rong et al., 2022): whether the classifier keeps its prediction when pixels are removed and
//! imputed from their surroundings, so that the shape of the removed region leaks no information.
//!
//! The most relevant pixels are removed first (MoRF), or the least relevant ones (LeRF). There are two imputers, both on
//! values in 0..1 before normalisation:
//! - noisy linear, the default: every removed pixel is the weighted mean of its eight neighbours, a sparse system of
//!   linear equations ([`linear`]), plus Gaussian noise of standard deviation 0.01 whose seed depends on the image alone;
//! - Telea's in-painting with radius 3 ([`telea`]).
//!
//! At each percentage the target class is predicted (1) or not (0). The parameter says which percentages are removed:
//!
//! | parameter | removed | value |
//! |---|---|---|
//! | none, `@ptame` | 10, 30, 50, 70 percent | area by the trapezoidal rule over the share removed, from (0, 1) to (1, 0) |
//! | `@ttame` | 10, 20, 30, 40, 50, 70, 90 percent (percentiles 90 to 10) | mean |
//! | `@V` | V percent | 1 or 0 |
//!
//! | metric | removed first | imputer | unit | range | better |
//! |---|---|---|---|---|---|
//! | `road-morf` | the most relevant | noisy linear | fraction | 0.05..0.85 (area), else 0..1 | lower |
//! | `road-lerf` | the least relevant | noisy linear | fraction | the same | higher |
//! | `road-morf-telea` | the most relevant | Telea | fraction | the same | lower |
//! | `road-lerf-telea` | the least relevant | Telea | fraction | the same | higher |
//!
//! Undefined where the scores of any imputed image are not finite.
//!
//! Cost: one forward pass for each percentage.

mod linear;
mod telea;

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use explainer_zoo::random::stream;
use rand::Rng;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::{
    Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, Prediction, Requirement, TopPixels,
    curves,
};

/// Percentages removed in the P-TAME paper.
const PTAME: [f64; 4] = [10.0, 30.0, 50.0, 70.0];
/// Percentages removed in the T-TAME paper.
const TTAME: [f64; 7] = [10.0, 20.0, 30.0, 40.0, 50.0, 70.0, 90.0];
/// Standard deviation of the linear imputer's noise.
const NOISE: f32 = 0.01;

/// How removed pixels are imputed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Imputer {
    /// Noisy linear imputation.
    Linear,
    /// Telea's in-painting.
    Telea,
}

/// Which pixels are removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovalOrder {
    /// MoRF.
    MostRelevantFirst,
    /// LeRF.
    LeastRelevantFirst,
}

/// Percentages of removed pixels, and how the predictions are combined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Percentages {
    /// P-TAME's, area.
    Ptame,
    /// T-TAME's, mean.
    Ttame,
    /// One percentage, above 0 and below 100.
    One(f64),
}

impl Percentages {
    fn values(&self) -> Vec<f64> {
        match self {
            Self::Ptame => PTAME.to_vec(),
            Self::Ttame => TTAME.to_vec(),
            Self::One(percent) => vec![*percent],
        }
    }
}

/// ROAD.
#[derive(Clone, Debug)]
pub(crate) struct Road {
    pub order: RemovalOrder,
    pub imputer: Imputer,
    pub percentages: Percentages,
}

impl Metric for Road {
    fn spec(&self) -> MetricSpec {
        let (order, words, better) = match self.order {
            RemovalOrder::MostRelevantFirst => ("morf", "most", Direction::Lower),
            RemovalOrder::LeastRelevantFirst => ("lerf", "least", Direction::Higher),
        };
        let (imputer, imputed) = match self.imputer {
            Imputer::Linear => ("", "noisy linear imputation"),
            Imputer::Telea => ("-telea", "Telea's in-painting"),
        };
        let (suffix, value, range) = match &self.percentages {
            Percentages::Ptame => (String::new(), "area".to_owned(), [0.05, 0.85]),
            Percentages::Ttame => ("@ttame".to_owned(), "mean over T-TAME's percentages".to_owned(), [0.0, 1.0]),
            Percentages::One(percent) => (format!("@{percent}"), format!("{percent}% removed"), [0.0, 1.0]),
        };
        MetricSpec {
            name: format!("road-{order}{imputer}{suffix}"),
            title: format!("ROAD, {words} relevant first, {imputed}, {value}"),
            family: Family::Faithfulness,
            better,
            unit: "fraction",
            range,
            source: "Rong et al., 2022",
            passes: self.percentages.values().len(),
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let percents = self.percentages.values();
        let key = format!("road {:?} {:?} {percents:?}", self.order, self.imputer);
        let computed: Rc<Result<Vec<Option<Prediction>>, MetricError>> =
            attributions.cache().get_or_compute(&key, || self.predictions(attributions, &percents));
        let predictions = computed.as_ref().as_ref().map_err(Clone::clone)?;
        Ok(predictions.chunks(percents.len()).map(|predictions| self.value(&percents, predictions)).collect())
    }
}

impl Road {
    fn value(&self, percents: &[f64], predictions: &[Option<Prediction>]) -> Option<f64> {
        let predicted = |found: &Option<Prediction>| found.map(|found| f64::from(u8::from(found.top)));
        let predicted: Vec<f64> = predictions.iter().map(predicted).collect::<Option<_>>()?;
        Some(match self.percentages {
            Percentages::Ptame => {
                let points = percents.iter().map(|percent| percent / 100.0).zip(predicted);
                curves::trapezoid(&[(0.0, 1.0)].into_iter().chain(points).chain([(1.0, 0.0)]).collect::<Vec<_>>())
            }
            Percentages::Ttame | Percentages::One(_) => predicted.iter().sum::<f64>() / percents.len() as f64,
        })
    }

    fn predictions(
        &self,
        attributions: &MetricInput<'_>,
        percents: &[f64],
    ) -> Result<Vec<Option<Prediction>>, MetricError> {
        let batch = attributions.batch();
        let [height, width] = batch.size();
        let counts: Vec<usize> = percents.iter().map(|percent| self.count(attributions, *percent)).collect();
        let images = pixel_values(batch);
        let images: &[Vec<f32>] = &images;
        let mut failure = None;
        let predictions = attributions.predict_with(&attributions.top_pixels(&counts), |top| {
            // The attributions cannot be shared between threads.
            let removed: Vec<(usize, Vec<bool>)> = top.iter().map(|top| self.removed(attributions, *top)).collect();
            let imputed: Vec<Result<Vec<f32>, MetricError>> = removed
                .into_par_iter()
                .map(|(image, removed)| {
                    let clean = images.get(image).map_or(&[][..], Vec::as_slice);
                    self.impute(clean, &removed, [height, width])
                })
                .collect();
            let mut values = Vec::with_capacity(top.len() * 3 * height * width);
            for imputed in imputed {
                match imputed {
                    Ok(image) => values.extend(image),
                    Err(error) => failure = Some(error),
                }
            }
            // After a failure the predictions are discarded.
            values.resize(top.len() * 3 * height * width, 0.0);
            let images = Tensor::from_data(TensorData::new(values, [top.len(), 3, height, width]), &batch.device());
            batch.preprocessing().normalise(images)
        });
        failure.map_or(Ok(predictions), Err)
    }

    /// The image of a perturbed image, and which of its pixels are removed.
    fn removed(&self, attributions: &MetricInput<'_>, top: TopPixels) -> (usize, Vec<bool>) {
        let ranking = attributions.ranking(top.map);
        let (most, least) = ranking.split_at(top.count.min(ranking.len()));
        let pixels = match self.order {
            RemovalOrder::MostRelevantFirst => most,
            RemovalOrder::LeastRelevantFirst => least,
        };
        let mut removed = vec![false; ranking.len()];
        pixels.iter().for_each(|pixel| removed[*pixel as usize] = true);
        (attributions.image_indices().get(top.map).copied().unwrap_or_default(), removed)
    }

    /// Number of top pixels that are removed (MoRF) or kept (LeRF) at this percentage.
    fn count(&self, attributions: &MetricInput<'_>, percent: f64) -> usize {
        let removed = attributions.pixel_count(percent);
        match self.order {
            RemovalOrder::MostRelevantFirst => removed,
            RemovalOrder::LeastRelevantFirst => attributions.pixels() - removed,
        }
    }

    /// An image `[3,H,W]` in 0..=1 with its removed pixels imputed.
    fn impute(&self, image: &[f32], removed: &[bool], size: [usize; 2]) -> Result<Vec<f32>, MetricError> {
        match self.imputer {
            Imputer::Telea => Ok(telea::inpaint(image, removed, size)),
            Imputer::Linear => {
                let mut imputed = linear::impute(image, removed, size)?;
                let mut noise = Normal::seeded_by(image);
                for (value, removed) in imputed.iter_mut().zip(removed.iter().cycle()) {
                    let noise = noise.next(); // drawn for every pixel, so that it does not depend on what is removed
                    if *removed {
                        *value += NOISE * noise;
                    }
                }
                Ok(imputed)
            }
        }
    }
}

/// Each image's values in 0..=1, `[3,H,W]`.
fn pixel_values(batch: &ImageBatch<'_>) -> Rc<Vec<Vec<f32>>> {
    batch.cache().get_or_compute("pixels", || {
        let [height, width] = batch.size();
        let images = batch.preprocessing().unnormalise(batch.images().clone());
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        values.chunks((3 * height * width).max(1)).map(<[f32]>::to_vec).collect()
    })
}

/// Standard normal numbers whose seed depends on an image alone, not on its position in a batch.
struct Normal {
    random: rand_chacha::ChaCha8Rng,
    spare: Option<f32>,
}

impl Normal {
    fn seeded_by(image: &[f32]) -> Self {
        // The FNV-1a hash of the values.
        let step = |hash: u64, value: &f32| (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        let hash = image.iter().fold(0xcbf2_9ce4_8422_2325, step);
        Self { random: stream(0, "road", &[hash]), spare: None }
    }

    /// The Box-Muller transform, which makes two numbers at a time.
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
    use super::*;
    use crate::testing::{batch, brightness, image, map};

    const MORF: RemovalOrder = RemovalOrder::MostRelevantFirst;
    const LERF: RemovalOrder = RemovalOrder::LeastRelevantFirst;

    fn road(order: RemovalOrder, imputer: Imputer, percentages: Percentages) -> Road {
        Road { order, imputer, percentages }
    }

    /// 16 x 16 pixels: the upper three quarters 0.8, the rest 0.1.
    fn scene() -> Vec<f32> {
        (0..256).map(|i| if i < 192 { 0.8 } else { 0.1 }).collect()
    }

    #[test]
    fn removal_of_the_important_pixels_costs_the_class() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&scene(), [16, 16])); // mean 0.625: class 0
        let falling: Vec<f32> = (0..256).map(|i| 256.0 - i as f32).collect();
        let attributions = MetricInput::new(&batch, map(&falling, [16, 16])).unwrap();
        for imputer in [Imputer::Linear, Imputer::Telea] {
            let at =
                |order, percent| road(order, imputer, Percentages::One(percent)).measure(&attributions).unwrap()[0];
            // Without the upper half, the rest of the bright part is imputed there: 0.8 as before.
            assert_eq!(at(MORF, 50.0), Some(1.0), "{imputer:?}");
            // Without the upper three quarters and a little more, only the dark part is left to impute from.
            assert_eq!(at(MORF, 80.0), Some(0.0), "{imputer:?}");
            // The other way round the image becomes brighter.
            assert_eq!(at(LERF, 50.0), Some(1.0), "{imputer:?}");
            // Ones at 10, 30, 50 and 70 percent, where a little of the bright part is left; then down to 0 at 100.
            assert_eq!(at(MORF, 70.0), Some(1.0), "{imputer:?}");
            let area = road(MORF, imputer, Percentages::Ptame).measure(&attributions).unwrap()[0].unwrap();
            assert!((area - 0.85).abs() < 1e-12, "{imputer:?}: {area}");
            // T-TAME's percentages: all but 90.
            let mean = road(MORF, imputer, Percentages::Ttame).measure(&attributions).unwrap()[0].unwrap();
            assert!((mean - 6.0 / 7.0).abs() < 1e-12, "{imputer:?}: {mean}");
        }
    }

    #[test]
    fn the_area_of_a_curve_worked_out_by_hand() {
        let prediction = |top| Some(Prediction { score: 0.5, top });
        let mut predictions = [true, true, false, false].map(prediction);
        // (0,1) (0.1,1) (0.3,1) (0.5,0) (0.7,0) (1,0).
        let road = road(MORF, Imputer::Linear, Percentages::Ptame);
        let area = road.value(&PTAME, &predictions).unwrap();
        assert!((area - 0.4).abs() < 1e-12, "{area}");
        predictions[3] = None;
        assert_eq!(road.value(&PTAME, &predictions), None, "an undefined prediction is not a lost class");
    }

    #[test]
    fn noise_depends_on_the_image_alone_and_has_its_standard_deviation() {
        let draw = |image: &[f32]| {
            let mut normal = Normal::seeded_by(image);
            (0..10_000).map(|_| normal.next()).collect::<Vec<f32>>()
        };
        let numbers = draw(&[0.5; 12]);
        assert_eq!(numbers, draw(&[0.5; 12]));
        assert_ne!(numbers[..8], draw(&[0.25; 12])[..8]);
        let mean = numbers.iter().sum::<f32>() / 1e4;
        let variance = numbers.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{mean} {variance}");

        let road = road(MORF, Imputer::Linear, Percentages::Ptame);
        let flat = [0.5_f32; 3 * 400];
        let removed: Vec<bool> = (0..400).map(|i| (100..300).contains(&i)).collect();
        let imputed = road.impute(&flat, &removed, [20, 20]).unwrap();
        let off: Vec<f32> =
            imputed.iter().zip(removed.iter().cycle()).filter(|(_, removed)| **removed).map(|(v, _)| v - 0.5).collect();
        let spread = (off.iter().map(|v| v * v).sum::<f32>() / off.len() as f32).sqrt();
        assert!((spread - NOISE).abs() < 0.001, "{spread}");
        assert!(imputed.iter().zip(removed.iter().cycle()).all(|(value, removed)| *removed || *value == 0.5));
    }
}
