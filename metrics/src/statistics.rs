//! Statistics over a data set: mean, standard error and bootstrap interval of one value for each image, and of the
//! differences between two explainers.

use rand::Rng;
use serde::Serialize;

use explainer_zoo::random::stream;

/// Number of bootstrap resamples.
const RESAMPLES: usize = 2000;
/// Ends of the 95% interval, as quantiles of the means of the resamples.
const ENDS: [f64; 2] = [0.025, 0.975];

/// Mean of some values with its standard error and confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean of the defined values; `None` if there is none.
    pub mean: Option<f64>,
    /// Standard deviation (with n - 1) over the root of n; `None` for fewer than two defined values.
    pub standard_error: Option<f64>,
    /// 95% confidence interval of the mean, by the percentile bootstrap with 2000 resamples; `None` for fewer than two
    /// defined values. It depends on the values and their order alone: the random seed is fixed.
    pub interval: Option<[f64; 2]>,
    /// Number of defined values.
    pub defined: usize,
    /// Number of undefined values, which the other fields leave out.
    pub undefined: usize,
}

impl Estimate {
    /// Statistics of one value for each image. A value that is not finite counts as undefined.
    #[must_use]
    pub fn of(values: &[Option<f64>]) -> Self {
        let defined: Vec<f64> = values.iter().copied().flatten().filter(|value| value.is_finite()).collect();
        let count = defined.len();
        let mean = defined.iter().sum::<f64>() / count as f64;
        let spread = || {
            let squares: f64 = defined.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1) as f64 / count as f64).sqrt()
        };
        Self {
            mean: (count > 0).then_some(mean),
            standard_error: (count > 1).then(spread),
            interval: (count > 1).then(|| bootstrap(&defined)),
            defined: count,
            undefined: values.len() - count,
        }
    }

    /// Statistics of the differences `ours` - `theirs`, whose values are for the same images in the same order. A difference
    /// is undefined where either value is undefined or missing.
    #[must_use]
    pub fn of_difference(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Self {
        let theirs = theirs.iter().copied().chain(std::iter::repeat(None));
        let differences: Vec<Option<f64>> = ours.iter().zip(theirs).map(|(a, b)| Some((*a)? - b?)).collect();
        Self::of(&differences)
    }
}

/// The percentile bootstrap's interval of the mean of at least one value.
fn bootstrap(values: &[f64]) -> [f64; 2] {
    let mut random = stream(0, "bootstrap", &[]);
    let count = values.len() as u64;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            // The multiplication maps 32 random bits to 0..count, with a negligible bias of count / 2^32.
            let draw = |_| values.get(((u64::from(random.next_u32()) * count) >> 32) as usize).copied().unwrap_or(0.0);
            (0..count).map(draw).sum::<f64>() / count as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    ENDS.map(|end| {
        let position = end * (RESAMPLES - 1) as f64;
        let at = |index: usize| means.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(position as usize), at(position.ceil() as usize));
        low + (high - low) * position.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn mean_and_standard_error_by_hand() {
        let found = Estimate::of(&[Some(1.0), None, Some(2.0), Some(6.0)]);
        assert_eq!((found.mean, found.defined, found.undefined), (Some(3.0), 3, 1));
        // Squares 4 + 1 + 9 = 14, over 2, over 3.
        assert!((found.standard_error.unwrap() - (7.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_interval_agrees_with_the_central_limit_theorem() {
        // 400 values, half 0 and half 1: standard error 0.025, hence 0.5 +- 0.049.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let found = Estimate::of(&some(&values));
        let [low, high] = found.interval.unwrap();
        assert!((low - 0.451).abs() < 0.004 && (high - 0.549).abs() < 0.004, "{low} {high}");
        assert_eq!(Estimate::of(&some(&values)), found, "it is deterministic");
    }

    #[test]
    fn few_values_have_no_interval() {
        let none = Estimate::of(&[None, None]);
        assert_eq!(none, Estimate { mean: None, standard_error: None, interval: None, defined: 0, undefined: 2 });
        let one = Estimate::of(&[Some(4.0)]);
        assert_eq!((one.mean, one.standard_error, one.interval), (Some(4.0), None, None));
        assert_eq!(Estimate::of(&some(&[2.0; 5])).interval, Some([2.0, 2.0]));
        assert_eq!(Estimate::of(&[]).undefined, 0);
        let not_finite = Estimate::of(&[Some(f64::NAN), Some(f64::INFINITY), Some(4.0)]);
        assert_eq!((not_finite.mean, not_finite.defined, not_finite.undefined), (Some(4.0), 1, 2));
    }

    #[test]
    fn paired_differences_have_the_narrower_interval() {
        // The images differ much from each other, the explainers by 1 on every image.
        let theirs: Vec<f64> = (0..50).map(|i| f64::from(i * 7 % 50)).collect();
        let ours: Vec<f64> = theirs.iter().map(|value| value + 1.0).collect();
        let apart = Estimate::of(&some(&ours)).interval.unwrap();
        let paired = Estimate::of_difference(&some(&ours), &some(&theirs));
        assert_eq!((paired.mean, paired.interval), (Some(1.0), Some([1.0, 1.0])));
        assert!(apart[1] - apart[0] > 5.0);
    }

    #[test]
    fn a_pair_needs_both() {
        let found = Estimate::of_difference(&[Some(3.0), Some(1.0), None, Some(8.0)], &[Some(1.0), None, Some(2.0)]);
        assert_eq!((found.mean, found.defined, found.undefined), (Some(2.0), 1, 3));
    }
}
