//! Positive and negative perturbation (Chefer et al., 2021): how long the classifier keeps to its class while pixels
//! turn black, the most important first (POS) or the least important first (NEG).
//!
//! 0, 10, .., 90 percent of the pixels turn black; at each the explained class is predicted (1) or not (0). The value is
//! the area under that, by trapezoids, over the percentages from 0 to 90: 90 where the class is never lost.
//!
//! | metric | first to go | unit | range | better |
//! |---|---|---|---|---|
//! | `pos` | the most important | percent | 0..90 | lower |
//! | `neg` | the least important | percent | 0..90 | higher |
//!
//! Cost: 9 forward passes.

use super::{Attributions, Better, Frame, Metric, MetricError, MetricSpec, Needs, curve};

/// Percentages that turn black after the first, which is none.
const PERCENTS: [f64; 9] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0];

/// Positive perturbation.
#[derive(Clone, Debug)]
pub(super) struct Pos;

/// Negative perturbation.
#[derive(Clone, Debug)]
pub(super) struct Neg;

impl Metric for Pos {
    fn spec(&self) -> MetricSpec {
        spec("pos", "positive perturbation, the most important pixels go first", Better::Lower)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let frames = case.frames(&PERCENTS.map(|percent| case.share(percent)));
        let black = case.subject().black();
        Ok(areas(case, &case.predict(&frames, &black, case.subject().images())))
    }
}

impl Metric for Neg {
    fn spec(&self) -> MetricSpec {
        spec("neg", "negative perturbation, the least important pixels go first", Better::Higher)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let frames: Vec<Frame> = case.frames(&PERCENTS.map(|percent| case.pixels() - case.share(percent)));
        let black = case.subject().black();
        Ok(areas(case, &case.predict(&frames, case.subject().images(), &black)))
    }
}

fn spec(name: &str, title: &str, better: Better) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        better,
        unit: "percent",
        range: [0.0, 90.0],
        source: "Chefer et al., 2021",
        passes: PERCENTS.len(),
        needs: Needs::Nothing,
    }
}

fn areas(case: &Attributions<'_>, looks: &[super::Prediction]) -> Vec<Option<f64>> {
    let kept = |top: bool| f64::from(u8::from(top));
    let area = |(map, looks): (usize, &[super::Prediction])| {
        let start = (0.0, kept(case.clean(map).top));
        let rest = PERCENTS.iter().zip(looks).map(|(percent, look)| (*percent, kept(look.top)));
        Some(curve::trapezoid(&[start].into_iter().chain(rest).collect::<Vec<_>>()))
    };
    looks.chunks(PERCENTS.len()).enumerate().map(area).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, map, subject};
    use super::*;

    #[test]
    fn areas_of_curves_worked_out_by_hand() {
        let backbone = Brightness::new();
        // Ten pixels of 0.8: class 0 is predicted while their mean is at least 1/2 (a tie goes to it).
        let subject = subject(&backbone, image(&[0.8; 10], [2, 5]));
        let falling: Vec<f32> = (0..10).map(|i| 1.0 - i as f32 / 10.0).collect();
        let case = Attributions::new(&subject, map(&falling, [2, 5])).unwrap();
        // Black 0..3 of 10 leaves 0.8 .. 0.56; 4 leave 0.48. Ones at 0, 10, 20, 30, then zeros: 30 + 10 / 2.
        assert_eq!(Pos.measure(&case).unwrap(), [Some(35.0)]);
        assert_eq!(Neg.measure(&case).unwrap(), [Some(35.0)]);
    }

    #[test]
    fn the_order_decides_which_pixels_go() {
        let backbone = Brightness::new();
        let mut pixels = [0.0; 10];
        pixels[..6].fill(1.0);
        let subject = subject(&backbone, image(&pixels, [2, 5]));
        let falling: Vec<f32> = (0..10).map(|i| 1.0 - i as f32 / 10.0).collect();
        let case = Attributions::new(&subject, map(&falling, [2, 5])).unwrap();
        // White pixels go first: 0.6, 0.5 (a tie is class 0), 0.4: ones at 0 and 10.
        assert_eq!(Pos.measure(&case).unwrap(), [Some(15.0)]);
        // Black ones go first and change nothing; then 0.5 at 50 percent, 0.4 at 60.
        assert_eq!(Neg.measure(&case).unwrap(), [Some(55.0)]);
    }
}
