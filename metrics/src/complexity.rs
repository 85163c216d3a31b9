//! Sparsity and complexity: over how many pixels a map spreads its importance.
//!
//! Of the magnitudes |v| of the upsampled map's N values:
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `sparsity` | Gini index, 1 - 2 sum_k (v_k / sum v) (N - k + 1/2) / N, v_1 <= .. <= v_N (Chalasani et al., 2020) | fraction | 0..1 | higher |
//! | `complexity` | entropy, - sum p ln p with p = v / sum v (Bhatt et al., 2020) | nat | 0..ln N | lower |
//!
//! A constant map has sparsity 0 and complexity ln N. Undefined for a map that is 0 everywhere.
//!
//! Cost: no pass.

use super::{Attributions, Better, Metric, MetricError, MetricSpec, Needs};

/// Gini index.
#[derive(Clone, Debug)]
pub(super) struct Sparsity;

/// Entropy.
#[derive(Clone, Debug)]
pub(super) struct Complexity;

impl Metric for Sparsity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "sparsity".into(),
            title: "sparsity, Gini index of the map".into(),
            better: Better::Higher,
            unit: "fraction",
            range: [0.0, 1.0],
            source: "Chalasani et al., 2020",
            passes: 0,
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(case.maps().map(gini).collect())
    }
}

impl Metric for Complexity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "complexity".into(),
            title: "complexity, entropy of the map".into(),
            better: Better::Lower,
            unit: "nat",
            range: [0.0, f64::INFINITY],
            source: "Bhatt et al., 2020",
            passes: 0,
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(case.maps().map(entropy).collect())
    }
}

fn gini(map: &[f32]) -> Option<f64> {
    let mut values: Vec<f32> = map.iter().map(|value| value.abs()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let (count, sum) = (values.len() as f64, values.iter().map(|value| f64::from(*value)).sum::<f64>());
    let weighted: f64 = values.iter().zip(1..).map(|(value, k)| f64::from(*value) * (count - f64::from(k) + 0.5)).sum();
    (sum > 0.0).then(|| 1.0 - 2.0 * weighted / (sum * count))
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
    fn indices_worked_out_by_hand() {
        let near = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}, {expected}")
        };
        near(gini(&[0.5; 8]), 0.0);
        near(gini(&[0.0, 0.0, 1.0, 0.0]), 0.75); // 1 - 2 (1 * 0.5) / 4
        near(gini(&[3.0, 1.0]), 0.25); // 1 - 2 (1 * 1.5 + 3 * 0.5) / (4 * 2)
        near(entropy(&[0.5; 8]), 8.0_f64.ln());
        near(entropy(&[0.0, 2.0, 0.0]), 0.0);
        near(entropy(&[0.25, 0.5, 0.25]), 1.5 * 2.0_f64.ln());
        assert_eq!((gini(&[0.0; 3]), entropy(&[0.0; 3])), (None, None));
    }
}
