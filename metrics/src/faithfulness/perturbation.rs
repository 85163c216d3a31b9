//! Positive and negative perturbation (Chefer et al., 2021): how long the classifier keeps its prediction while pixels turn
//! black, the most important first (POS) or the least important first (NEG).
//!
//! 0, 10, .., 90 percent of the pixels turn black; at each percentage the target class is predicted (1) or not (0). The
//! value is the area under these by the trapezoidal rule, over the percentages from 0 to 90: 90 where the class stays
//! predicted.
//!
//! | metric | black first | unit | range | better |
//! |---|---|---|---|---|
//! | `pos` | the most important | percent | 0..90 | lower |
//! | `neg` | the least important | percent | 0..90 | higher |
//!
//! Undefined where the scores of any perturbed image are not finite.
//!
//! Cost: 9 forward passes.

use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Prediction, Requirement, curves};

/// Percentages of black pixels after the first one, which is 0.
const PERCENTS: [f64; 9] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0];

/// Positive perturbation.
#[derive(Clone, Debug)]
pub(crate) struct Pos;

/// Negative perturbation.
#[derive(Clone, Debug)]
pub(crate) struct Neg;

impl Metric for Pos {
    fn spec(&self) -> MetricSpec {
        spec("pos", "positive perturbation, the most important pixels turn black first", Direction::Lower)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let batch = attributions.batch();
        let black = attributions.top_pixels(&PERCENTS.map(|percent| attributions.pixel_count(percent)));
        Ok(areas(attributions, &attributions.predict(&black, &batch.black(), batch.images())))
    }
}

impl Metric for Neg {
    fn spec(&self) -> MetricSpec {
        spec("neg", "negative perturbation, the least important pixels turn black first", Direction::Higher)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let batch = attributions.batch();
        let kept = PERCENTS.map(|percent| attributions.pixels() - attributions.pixel_count(percent));
        let kept = attributions.top_pixels(&kept);
        Ok(areas(attributions, &attributions.predict(&kept, batch.images(), &batch.black())))
    }
}

fn spec(name: &str, title: &str, better: Direction) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        family: Family::Faithfulness,
        better,
        unit: "percent",
        range: [0.0, 90.0],
        source: "Chefer et al., 2021",
        passes: PERCENTS.len(),
        needs: Requirement::Nothing,
    }
}

fn areas(attributions: &MetricInput<'_>, predictions: &[Option<Prediction>]) -> Vec<Option<f64>> {
    let predicted = |found: Option<Prediction>| found.map(|found| f64::from(u8::from(found.top)));
    let area = |(map, steps): (usize, &[Option<Prediction>])| {
        let start = (0.0, predicted(attributions.clean(map)));
        let rest = PERCENTS.iter().zip(steps).map(|(percent, step)| (*percent, predicted(*step)));
        let points = [start].into_iter().chain(rest).map(|(percent, height)| Some((percent, height?)));
        Some(curves::trapezoid(&points.collect::<Option<Vec<_>>>()?))
    };
    predictions.chunks(PERCENTS.len()).enumerate().map(area).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, image, map};

    #[test]
    fn areas_of_curves_worked_out_by_hand() {
        let backbone = brightness();
        // Ten pixels of 0.8: class 0 is predicted while their mean is at least 1/2 (a tie goes to it).
        let batch = batch(&backbone, image(&[0.8; 10], [2, 5]));
        let falling: Vec<f32> = (0..10).map(|i| 1.0 - i as f32 / 10.0).collect();
        let attributions = MetricInput::new(&batch, map(&falling, [2, 5])).unwrap();
        // Black 0..3 of 10 leaves 0.8 .. 0.56; 4 leave 0.48. Ones at 0, 10, 20, 30, then zeros: 30 + 10 / 2.
        assert_eq!(Pos.measure(&attributions).unwrap(), [Some(35.0)]);
        assert_eq!(Neg.measure(&attributions).unwrap(), [Some(35.0)]);
    }

    #[test]
    fn the_order_decides_which_pixels_go() {
        let backbone = brightness();
        let mut pixels = [0.0; 10];
        pixels[..6].fill(1.0);
        let batch = batch(&backbone, image(&pixels, [2, 5]));
        let falling: Vec<f32> = (0..10).map(|i| 1.0 - i as f32 / 10.0).collect();
        let attributions = MetricInput::new(&batch, map(&falling, [2, 5])).unwrap();
        // White pixels turn black first: 0.6, 0.5 (a tie is class 0), 0.4: ones at 0 and 10.
        assert_eq!(Pos.measure(&attributions).unwrap(), [Some(15.0)]);
        // The black pixels come first and change nothing; then 0.5 at 50 percent, 0.4 at 60.
        assert_eq!(Neg.measure(&attributions).unwrap(), [Some(55.0)]);
    }
}
