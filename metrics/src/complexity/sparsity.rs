//! Sparsity (Chalasani et al., 2020): the Gini index of a map.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `sparsity` | 1 - 2 sum_k (v_k / sum v) (N - k + 1/2) / N, v_1 <= .. <= v_N | fraction | 0..1 | higher |
//!
//! v are the magnitudes of the upsampled map's N values. A constant map has sparsity 0. Undefined for a map of zeros.
//!
//! Cost: no forward pass.

use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// Gini index.
#[derive(Clone, Debug)]
pub(crate) struct Sparsity;

impl Metric for Sparsity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "sparsity".into(),
            title: "sparsity, Gini index of the map".into(),
            family: Family::Complexity,
            better: Direction::Higher,
            unit: "fraction",
            range: [0.0, 1.0],
            source: "Chalasani et al., 2020",
            passes: 0,
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(attributions.maps().map(gini).collect())
    }
}

fn gini(map: &[f32]) -> Option<f64> {
    let mut values: Vec<f32> = map.iter().map(|value| value.abs()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let (count, sum) = (values.len() as f64, values.iter().map(|value| f64::from(*value)).sum::<f64>());
    let weighted: f64 = values.iter().zip(1..).map(|(value, k)| f64::from(*value) * (count - f64::from(k) + 0.5)).sum();
    (sum > 0.0).then(|| 1.0 - 2.0 * weighted / (sum * count))
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
        assert_eq!(gini(&[0.0; 3]), None);
    }
}
