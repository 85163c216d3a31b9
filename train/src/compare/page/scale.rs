//! Axes of plots, and places for their labels.

/// A straight axis from a range of values to a range of pixels, with round ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    values: [f64; 2],
    pixels: [f64; 2],
    /// Round values on the axis.
    pub ticks: Vec<f64>,
    /// Distance of two ticks.
    pub step: f64,
}

impl Scale {
    /// An axis over the finite ones of these values: their range, or 0 to 1 if there is none, widened to round ticks.
    pub fn new(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Self {
        let [mut low, mut high] = values
            .filter(|value| value.is_finite())
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)]);
        if low > high {
            [low, high] = [0.0, 1.0];
        }
        if high - low < 1e-9 {
            let room = (0.1 * high.abs()).max(0.05);
            [low, high] = [low - room, high + room];
        }
        let step = round_step((high - low) / 5.0);
        let [first, last] = [(low / step).floor(), (high / step).ceil()];
        let count = (last - first) as usize;
        // 3 * 0.1 is not 0.3, and -0 not 0.
        let tick = |at: usize| ((first + at as f64) * step * 1e9).round() / 1e9 + 0.0;
        Self { values: [first * step, last * step], pixels, ticks: (0..=count).map(tick).collect(), step }
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let ([low, high], [from, to]) = (self.values, self.pixels);
        from + (value - low) / (high - low) * (to - from)
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| *step >= 0.999 * least)
        .unwrap_or(10.0 * power)
}

/// Positions of labels, so that no two overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(Vec<[f64; 2]>);

impl Labels {
    /// Whether a label of diameter `size` at a place would overlap another.
    pub fn taken(&self, [x, y]: [f64; 2], size: f64) -> bool {
        self.0.iter().any(|[other_x, other_y]| (x - other_x).hypot(y - other_y) < size)
    }

    /// Takes a place.
    pub fn take(&mut self, place: [f64; 2]) {
        self.0.push(place);
    }

    /// Takes the closest free place on the same height, alternately to the right and to the left, at most `most` pixels
    /// away; the place itself if none is free.
    pub fn beside(&mut self, [x, y]: [f64; 2], size: f64, most: f64) -> [f64; 2] {
        let steps = (0..).map(|step| f64::from(step) * size / 2.0).take_while(|away| *away <= most);
        let places = steps.flat_map(|away| [[x + away, y], [x - away, y]]);
        let found = places.into_iter().find(|place| !self.taken(*place, size)).unwrap_or([x, y]);
        self.take(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_around_the_values() {
        let scale = Scale::new([12.3, 47.0, f64::NAN].into_iter(), [100.0, 0.0]);
        assert_eq!((scale.ticks.as_slice(), scale.step), (&[10.0, 20.0, 30.0, 40.0, 50.0][..], 10.0));
        assert_eq!((scale.at(10.0), scale.at(50.0), scale.at(30.0)), (100.0, 0.0, 50.0));
        let small = Scale::new([0.11, 0.48].into_iter(), [0.0, 1.0]);
        assert_eq!(small.ticks, [0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(Scale::new([-0.5, 0.5].into_iter(), [0.0, 1.0]).ticks[3].to_string(), "0", "and not -0");
    }

    #[test]
    fn one_value_or_none_has_an_axis_too() {
        for values in [vec![], vec![3.0], vec![0.0, 0.0], vec![f64::INFINITY]] {
            let scale = Scale::new(values.iter().copied(), [0.0, 10.0]);
            assert!(scale.ticks.len() > 2 && scale.at(0.5).is_finite(), "{values:?}: {scale:?}");
        }
    }

    #[test]
    fn labels_keep_apart() {
        let mut labels = Labels::default();
        let places: Vec<[f64; 2]> = (0..4).map(|_| labels.beside([50.0, 50.0], 10.0, 100.0)).collect();
        for (at, [x, y]) in places.iter().enumerate() {
            for [other_x, other_y] in &places[..at] {
                assert!((x - other_x).hypot(y - other_y) >= 10.0, "{places:?}");
            }
        }
        assert_eq!(places[0], [50.0, 50.0]);
    }
}
