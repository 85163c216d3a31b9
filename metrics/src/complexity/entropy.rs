//! Complexity (Bhatt et al., 2020): the entropy of a map.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `complexity` | - sum p ln p with p = v / sum v | nat | 0..ln N | lower |
//!
//! v are the magnitudes of the upsampled map's N values. A constant map has complexity ln N. Undefined for a map of zeros.
//!
//! Cost: no forward pass.

use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// Entropy.
#[derive(Clone, Debug)]
pub(crate) struct Entropy;

impl Metric for Entropy {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "complexity".into(),
            title: "complexity, entropy of the map".into(),
            family: Family::Complexity,
            better: Direction::Lower,
            unit: "nat",
            range: [0.0, f64::INFINITY],
            source: "Bhatt et al., 2020",
            passes: 0,
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(attributions.maps().map(entropy).collect())
    }
}

fn entropy(map: &[f32]) -> Option<f64> {
    let sum: f64 = map.iter().map(|value| f64::from(value.abs())).sum();
    let shares = map.iter().map(|value| f64::from(value.abs()) / sum).filter(|share| *share > 0.0);
    (sum > 0.0).then(|| -shares.map(|share| share * share.ln()).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_worked_out_by_hand() {
        let near = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}, {expected}")
        };
        near(entropy(&[0.5; 8]), 8.0_f64.ln());
        near(entropy(&[0.0, 2.0, 0.0]), 0.0);
        near(entropy(&[0.25, 0.5, 0.25]), 1.5 * 2.0_f64.ln());
        assert_eq!(entropy(&[0.0; 3]), None);
    }
}
