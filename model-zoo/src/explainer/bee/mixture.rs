//! A contextual bandit with Thompson sampling over the families of baselines, one for each metric.

use super::BeeError;
use super::family::BaselineDistribution;
use super::history::History;
use super::metric::RewardMetric;
use super::posterior::{Arm, dot};
use super::stream::SplitMix64;

/// The shape of a mixture; all mixtures of a run have the same.
#[derive(Clone, Debug, PartialEq)]
pub struct MixtureConfig {
    /// Length of the context vector; 100 in the paper.
    pub dimensions: usize,
    /// Length of the feature vector that the context is computed from.
    pub features: usize,
    /// rho: the precision of theta's prior, above 1; see [`minimise`](super::minimise). Features have length 1, so that
    /// one reward moves a context by at most |w| / rho. All arms share theta: if it moves fast, learning of one arm
    /// changes the estimates of the others.
    pub theta_precision: f64,
    /// How many scores the history keeps.
    pub history: usize,
}

impl MixtureConfig {
    /// The paper's 100 dimensions, for this number of features.
    pub fn new(features: usize) -> Self {
        Self { dimensions: 100, features, theta_precision: 1000.0, history: 1024 }
    }
}

/// The arms of one metric, the linear map from features to context, and the history of scores.
///
/// Features are scaled to length 1, which makes the scales of theta and of its prior independent of the encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    pub(super) metric: RewardMetric,
    pub(super) config: MixtureConfig,
    /// `[dimensions, features]`, row by row.
    pub(super) theta: Vec<f64>,
    /// One for each of [`BaselineDistribution::ALL`].
    pub(super) arms: [Arm; BaselineDistribution::COUNT],
    pub(super) history: History,
    /// Mean of the features learned from, of length 1 each.
    pub(super) centre: Vec<f64>,
}

/// The result of one played baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BanditUpdate {
    /// The metric.
    pub metric: RewardMetric,
    /// The family that was played.
    pub family: BaselineDistribution,
    /// The score of its map.
    pub score: f64,
    /// Its rank in the history, 0..1, 1 for the best: the probability of the reward.
    pub rank: f64,
    /// Whether the reward was +1.
    pub reward: bool,
}

/// The standing of an arm in a context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmStatistics {
    /// The family.
    pub family: BaselineDistribution,
    /// How often it was played.
    pub plays: u64,
    /// How often it was rewarded with +1.
    pub wins: u64,
    /// Mean of <w, c>.
    pub mean: f64,
    /// Standard deviation of <w, c>.
    pub deviation: f64,
    /// Probability that Thompson sampling plays it.
    pub probability: f64,
}

/// Thompson draws to estimate an arm's probability: a standard error of at most 0.4%.
const SAMPLES: usize = 16_384;

impl Mixture {
    /// The prior of a metric: every arm is as good as any other. Theta is drawn such that contexts have a length of
    /// about 1, and with it <w, c> the variance 1.
    pub fn prior(metric: RewardMetric, config: MixtureConfig, seed: u64) -> Self {
        let mut stream = SplitMix64::new(seed, "bee theta", &[metric as u64]);
        let scale = 1.0 / (config.dimensions.max(1) as f64).sqrt();
        let theta = (0..config.dimensions * config.features).map(|_| scale * stream.normal()).collect();
        let arms = std::array::from_fn(|_| Arm::prior(config.dimensions));
        let (history, centre) = (History::new(config.history), vec![0.0; config.features]);
        Self { metric, config, theta, arms, history, centre }
    }

    /// The metric.
    pub fn metric(&self) -> RewardMetric {
        self.metric
    }

    /// Its shape.
    pub fn config(&self) -> &MixtureConfig {
        &self.config
    }

    /// The scores so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Refuses an encoder with another number of features than the mixture's.
    ///
    /// # Errors
    /// [`BeeError::Features`].
    pub fn check(&self, features: usize) -> Result<(), BeeError> {
        let expected = self.config.features;
        match features == expected {
            true => Ok(()),
            false => Err(BeeError::Features { found: features, expected, finite: true }),
        }
    }

    /// How many baselines it has learned from.
    pub fn lessons(&self) -> u64 {
        self.history.seen()
    }

    /// The family to play for an image of these features: weights are drawn for every arm, and the one with the largest
    /// sigmoid(<w, c>) wins. Every choice needs a `stream` of its own.
    ///
    /// # Errors
    /// [`BeeError::Features`].
    pub fn choose(&self, features: &[f64], stream: &mut SplitMix64) -> Result<BaselineDistribution, BeeError> {
        let context = self.context(&self.unit(features)?);
        let mut best = (f64::NEG_INFINITY, BaselineDistribution::Normal);
        for (family, arm) in BaselineDistribution::ALL.into_iter().zip(&self.arms) {
            let logit = dot(&arm.draw(stream), &context);
            if logit > best.0 {
                best = (logit, family);
            }
        }
        Ok(best.1)
    }

    /// Learns from the score of a map whose baseline was of `family`. The reward of a score of middle rank
    /// is random, from the seed and the number of lessons.
    ///
    /// # Errors
    /// [`BeeError::Score`] for a score that is not finite, [`BeeError::Features`]; the mixture stays as it was.
    pub fn learn(
        &mut self,
        features: &[f64],
        family: BaselineDistribution,
        score: f64,
        seed: u64,
    ) -> Result<BanditUpdate, BeeError> {
        let metric = self.metric;
        if !score.is_finite() {
            return Err(BeeError::Score { metric, score });
        }
        let features = self.unit(features)?;
        let context = self.context(&features);
        let number = [metric as u64, self.lessons()];
        let rank = self.history.rank(metric, score);
        let reward = SplitMix64::new(seed, "bee reward", &number).flip(rank);
        let rho = self.config.theta_precision;
        let reach = dot(&features, &features) / rho;
        let found = self.arms[family as usize].learn(&context, reach, reward);
        for (row, w) in self.theta.chunks_exact_mut(features.len().max(1)).zip(&found.weights) {
            row.iter_mut().zip(&features).for_each(|(theta, x)| *theta += found.pull / rho * w * x);
        }
        self.history.add(score, &mut SplitMix64::new(seed, "bee history", &number));
        let share = 1.0 / self.lessons() as f64;
        self.centre.iter_mut().zip(&features).for_each(|(centre, x)| *centre += share * (x - *centre));
        Ok(BanditUpdate { metric, family, score, rank, reward })
    }

    /// The standing of the arms for an image of these features; without features, in the mean context.
    ///
    /// # Errors
    /// [`BeeError::Features`].
    pub fn standings(
        &self,
        features: Option<&[f64]>,
        seed: u64,
    ) -> Result<[ArmStatistics; BaselineDistribution::COUNT], BeeError> {
        let context = match features {
            Some(features) => self.context(&self.unit(features)?),
            None => self.context(&self.centre),
        };
        let logits = self.arms.each_ref().map(|arm| arm.logit(&context));
        let mut stream = SplitMix64::new(seed, "bee standings", &[self.metric as u64]);
        let mut counts = [0_u32; BaselineDistribution::COUNT];
        for _ in 0..SAMPLES {
            // <w, c> of independent normal weights is normal itself.
            let drawn = logits.map(|(mean, deviation)| mean + deviation * stream.normal());
            let best =
                (1..BaselineDistribution::COUNT).fold(0, |best, arm| if drawn[arm] > drawn[best] { arm } else { best });
            counts[best] += 1;
        }
        let standing = |family: BaselineDistribution| {
            let (arm, (mean, deviation)) = (&self.arms[family as usize], logits[family as usize]);
            let probability = f64::from(counts[family as usize]) / SAMPLES as f64;
            ArmStatistics { family, plays: arm.plays, wins: arm.wins, mean, deviation, probability }
        };
        Ok(BaselineDistribution::ALL.map(standing))
    }

    /// c = theta phi.
    fn context(&self, features: &[f64]) -> Vec<f64> {
        self.theta.chunks_exact(self.config.features.max(1)).map(|row| dot(row, features)).collect()
    }

    /// Features of length 1; all zeros stay as they are.
    fn unit(&self, features: &[f64]) -> Result<Vec<f64>, BeeError> {
        let length = dot(features, features).sqrt();
        if features.len() != self.config.features || !length.is_finite() {
            return Err(BeeError::Features {
                found: features.len(),
                expected: self.config.features,
                finite: length.is_finite(),
            });
        }
        Ok(features.iter().map(|x| if length > 0.0 { x / length } else { 0.0 }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: usize = 8;

    fn config() -> MixtureConfig {
        MixtureConfig { history: 256, ..MixtureConfig::new(FEATURES) }
    }

    /// Features as a network's: a common direction, a cluster's own, and some noise.
    fn features(cluster: usize, stream: &mut SplitMix64) -> Vec<f64> {
        let own = |i: usize| if i % 2 == cluster { 1.0 } else { 0.0 };
        (0..FEATURES).map(|i| 1.0 + own(i) + 0.2 * stream.normal()).collect()
    }

    /// The mean score of an arm: in one cluster `Blur` is the best, in the other `TrainData`.
    fn quality(cluster: usize, family: BaselineDistribution) -> f64 {
        match (cluster, family) {
            (0, BaselineDistribution::Blur) | (1, BaselineDistribution::TrainData) => 1.0,
            (0, BaselineDistribution::TrainData) | (1, BaselineDistribution::Blur) => -1.0,
            (_, BaselineDistribution::Constant) => 0.4,
            _ => 0.0,
        }
    }

    /// Plays `rounds`; the regret of each against the best arm, and what uniform choice would have had.
    fn play(metric: RewardMetric, rounds: usize, seed: u64) -> (Mixture, Vec<f64>) {
        let mut mixture = Mixture::prior(metric, config(), seed);
        let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
        let regret = |round| {
            let mut world = SplitMix64::new(seed, "world", &[round]);
            let cluster = world.below(2);
            let features = features(cluster, &mut world);
            let family = mixture.choose(&features, &mut SplitMix64::new(seed, "choice", &[round])).unwrap();
            let score = sign * (quality(cluster, family) + 0.5 * world.normal());
            mixture.learn(&features, family, score, seed).unwrap();
            1.0 - quality(cluster, family)
        };
        let regrets = (0..rounds as u64).map(regret).collect();
        (mixture, regrets)
    }

    /// Of uniform choice: 1 less the mean quality of the five arms, (1 - 1 + 0.4) / 5.
    const UNIFORM: f64 = 0.92;

    #[test]
    fn regret_falls_below_that_of_uniform_choice() {
        for metric in [RewardMetric::Ins, RewardMetric::Del] {
            let mean = |regrets: &[f64]| regrets.iter().sum::<f64>() / regrets.len() as f64;
            let (mixture, regrets) = play(metric, 3000, 1);
            let (early, late) = (mean(&regrets[..300]), mean(&regrets[2500..]));
            assert!(late < 0.3 * UNIFORM, "{metric}: {late} late, {early} early");
            assert!(late < early, "{metric}: {late} late, {early} early");
            // It knows which arm is whose.
            let mut stream = SplitMix64::new(9, "ask", &[]);
            for (cluster, best) in [(0, BaselineDistribution::Blur), (1, BaselineDistribution::TrainData)] {
                let standings = mixture.standings(Some(&features(cluster, &mut stream)), 0).unwrap();
                let first = standings.iter().max_by(|a, b| a.probability.total_cmp(&b.probability)).unwrap();
                assert_eq!(first.family, best, "{metric} cluster {cluster}: {standings:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_mixture() {
        let (first, regrets) = play(RewardMetric::Ins, 60, 3);
        let (again, other) = (play(RewardMetric::Ins, 60, 3), play(RewardMetric::Ins, 60, 4));
        assert_eq!((&first, &regrets), (&again.0, &again.1));
        assert_ne!(first, other.0);
        assert_ne!(first.theta, Mixture::prior(RewardMetric::Ins, config(), 3).theta, "the context is learned, too");
    }

    #[test]
    fn the_prior_has_no_preference() {
        let mixture = Mixture::prior(RewardMetric::Sic, config(), 5);
        let standings = mixture.standings(Some(&[1.0; FEATURES]), 5).unwrap();
        for (standing, family) in standings.iter().zip(BaselineDistribution::ALL) {
            assert_eq!((standing.family, standing.plays, standing.mean), (family, 0, 0.0));
            assert!((standing.probability - 0.2).abs() < 0.02, "{standing:?}");
            assert!((standing.deviation - 1.0).abs() < 0.3, "{standing:?}");
        }
        assert!((standings.iter().map(|s| s.probability).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn probabilities_are_those_of_the_choices() {
        let (mixture, _) = play(RewardMetric::Ins, 300, 2);
        let features = features(0, &mut SplitMix64::new(1, "one", &[]));
        let standings = mixture.standings(Some(&features), 0).unwrap();
        let mut counts = [0.0; BaselineDistribution::COUNT];
        for draw in 0..4000 {
            let family = mixture.choose(&features, &mut SplitMix64::new(0, "choice", &[draw])).unwrap();
            counts[family as usize] += 1.0 / 4000.0;
        }
        for (standing, count) in standings.iter().zip(counts) {
            assert!((standing.probability - count).abs() < 0.035, "{standing:?} was played {count}");
        }
    }

    #[test]
    fn what_cannot_be_learned_from_is_refused_and_changes_nothing() {
        let mut mixture = Mixture::prior(RewardMetric::Ins, config(), 0);
        let before = mixture.clone();
        let message = mixture.learn(&[1.0; FEATURES], BaselineDistribution::Blur, f64::NAN, 0).unwrap_err().to_string();
        assert!(message.contains("INS") && message.contains("NaN"), "{message}");
        let message = mixture.learn(&[1.0; 3], BaselineDistribution::Blur, 0.5, 0).unwrap_err().to_string();
        assert!(message.contains('3') && message.contains('8'), "{message}");
        assert!(mixture.choose(&[f64::INFINITY; FEATURES], &mut SplitMix64::new(0, "", &[])).is_err());
        assert_eq!(mixture, before);
        // An image without any feature is no error: its context is empty.
        mixture.learn(&[0.0; FEATURES], BaselineDistribution::Blur, 0.5, 0).unwrap();
        assert_eq!(mixture.theta, before.theta);
        assert_eq!((mixture.lessons(), mixture.arms[BaselineDistribution::Blur as usize].plays), (1, 1));
    }
}
