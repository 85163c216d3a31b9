//! Random numbers that are a pure function of (seed, purpose, numbers).

use sha2::{Digest, Sha256};

/// A random stream of its own for each (seed, purpose, numbers): splitmix64 (Steele et al., 2014), started at their
/// SHA-256. Nothing of it is kept between runs.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
    spare: Option<f64>,
}

impl SplitMix64 {
    /// The stream of a seed, a purpose and numbers. Streams of different purposes are independent.
    pub fn new(seed: u64, purpose: &str, numbers: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update((purpose.len() as u64).to_le_bytes());
        hash.update(purpose);
        hash.update(seed.to_le_bytes());
        for number in numbers {
            hash.update(number.to_le_bytes());
        }
        let state = hash.finalize().iter().take(8).fold(0, |state, byte| state << 8 | u64::from(*byte));
        Self { state, spare: None }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..count`; 0 for a count of 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// True with this probability.
    pub fn flip(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seed_purpose_and_numbers() {
        let first = |seed, purpose: &str, numbers: &[u64]| SplitMix64::new(seed, purpose, numbers).unit();
        assert_eq!(first(1, "arm", &[2, 3]), first(1, "arm", &[2, 3]));
        for other in
            [first(2, "arm", &[2, 3]), first(1, "baseline", &[2, 3]), first(1, "arm", &[3, 2]), first(1, "arm", &[2])]
        {
            assert_ne!(other, first(1, "arm", &[2, 3]));
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut stream = SplitMix64::new(0, "moments", &[]);
        let count = 20_000;
        let normal: Vec<f64> = (0..count).map(|_| stream.normal()).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let power = |p: i32| mean(&normal.iter().map(|x| x.powi(p)).collect::<Vec<_>>());
        assert!(power(1).abs() < 0.03 && (power(2) - 1.0).abs() < 0.05 && (power(4) - 3.0).abs() < 0.3);
        let unit: Vec<f64> = (0..count).map(|_| stream.unit()).collect();
        assert!((mean(&unit) - 0.5).abs() < 0.01 && unit.iter().all(|u| (0.0..1.0).contains(u)));
        let mut seen = [0; 5];
        (0..count).for_each(|_| seen[stream.below(5)] += 1);
        assert!(seen.iter().all(|n| (*n as f64 / count as f64 - 0.2).abs() < 0.02), "{seen:?}");
        assert_eq!(stream.below(0), 0);
        assert!((0..100).all(|_| stream.flip(1.0) && !stream.flip(0.0)));
    }
}
