//! The history of a metric's scores. The rank of a score in it is the reward, whatever the metric's scale.

use super::metric::RewardMetric;
use super::stream::SplitMix64;

/// A uniform sample of all scores so far, of bounded size (reservoir sampling: Vitter, 1985, algorithm R).
///
/// With n scores kept the rank of a score is off by a standard deviation of at most 1 / (2 sqrt n), 1.6% for 1,024;
/// up to n scores it is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    kept: Vec<f64>,
    capacity: usize,
    seen: u64,
}

impl History {
    /// An empty history that keeps at most `capacity` scores, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { kept: Vec::new(), capacity: capacity.max(1), seen: 0 }
    }

    /// A history from its parts; `None` if it has more scores than its capacity or than `seen`, or one that is not finite.
    pub(super) fn restored(kept: Vec<f64>, capacity: usize, seen: u64) -> Option<Self> {
        let sound = kept.len() as u64 == seen.min(capacity as u64) && kept.iter().all(|score| score.is_finite());
        (sound && capacity > 0).then_some(Self { kept, capacity, seen })
    }

    /// The kept scores, in no particular order.
    pub fn kept(&self) -> &[f64] {
        &self.kept
    }

    /// How many are kept at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many scores there have been.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The rank of `score` among the scores so far and itself, in 0..1: the share of worse scores, equal ones counted half;
    /// 1/2 for the first.
    pub fn rank(&self, metric: RewardMetric, score: f64) -> f64 {
        let worse = self.kept.iter().filter(|other| metric.better(score, **other)).count() as f64;
        let equal = self.kept.iter().filter(|other| **other == score).count() as f64;
        (worse + 0.5 * (equal + 1.0)) / (self.kept.len() as f64 + 1.0)
    }

    /// Adds a score. Every score needs a `stream` of its own.
    pub fn add(&mut self, score: f64, stream: &mut SplitMix64) {
        self.seen += 1;
        if self.kept.len() < self.capacity {
            self.kept.push(score);
        } else if let Some(place) = self.kept.get_mut(stream.below(self.seen as usize)) {
            *place = score;
        }
    }

    /// The score below which a share `at` (0..=1) of those kept lies, interpolated; none without scores.
    pub fn quantile(&self, at: f64) -> Option<f64> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let place = at.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
        let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
        Some(low + (high - low) * place.fract())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(scores: &[f64], capacity: usize) -> History {
        let mut history = History::new(capacity);
        for (i, score) in scores.iter().enumerate() {
            history.add(*score, &mut SplitMix64::new(0, "history", &[i as u64]));
        }
        history
    }

    #[test]
    fn the_rank_is_the_share_of_worse_scores() {
        let history = history(&[0.1, 0.2, 0.2, 0.4], 100);
        // Behind itself: of 5 scores 3 are worse.
        assert_eq!(history.rank(RewardMetric::Ins, 0.3), 3.5 / 5.0);
        assert_eq!(history.rank(RewardMetric::Ins, 0.2), (1.0 + 1.5) / 5.0);
        assert_eq!(history.rank(RewardMetric::Ins, 9.0), 4.5 / 5.0);
        for score in [0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5] {
            let (up, down) = (history.rank(RewardMetric::Ins, score), history.rank(RewardMetric::Del, score));
            assert!((up + down - 1.0).abs() < 1e-12, "lower is better: the rank is flipped");
        }
        assert_eq!(History::new(5).rank(RewardMetric::Del, 7.0), 0.5);
    }

    #[test]
    fn the_sample_is_bounded_and_uniform() {
        let scores: Vec<f64> = (0..20_000).map(f64::from).collect();
        let history = history(&scores, 500);
        assert_eq!((history.kept().len(), history.seen()), (500, 20_000));
        for score in [2_000.0, 10_000.0, 18_000.0] {
            assert!((history.rank(RewardMetric::Sic, score) - score / 20_000.0).abs() < 0.06, "{score}");
        }
        assert!((history.quantile(0.5).unwrap() - 10_000.0).abs() < 1_200.0);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let history = history(&[4.0, 1.0, 2.0], 9);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|at| history.quantile(at)), [Some(1.0), Some(1.5), Some(2.0), Some(4.0)]);
        assert_eq!(History::new(3).quantile(0.5), None);
    }

    #[test]
    fn only_a_sound_history_is_restored() {
        assert_eq!(
            History::restored(vec![1.0, 2.0], 2, 7),
            Some(History { kept: vec![1.0, 2.0], capacity: 2, seen: 7 })
        );
        assert_eq!(History::restored(vec![1.0, 2.0], 1, 7), None);
        assert_eq!(History::restored(vec![1.0, 2.0], 9, 1), None);
        assert_eq!(History::restored(vec![1.0], 9, 7), None);
        assert_eq!(History::restored(vec![f64::NAN], 9, 1), None);
        assert_eq!(History::restored(vec![], 0, 0), None);
    }
}
