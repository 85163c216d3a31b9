//! Normalised scanpath saliency (Peters et al., 2005): the map's values at people's fixations.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `nss` | mean, over the fixations, of (v - mean) / standard deviation of the map's values | standard deviations | any | higher |
//!
//! A random position has 0 on average. Undefined without fixations, and for a constant map.
//!
//! Cost: no forward pass.

use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// NSS.
#[derive(Clone, Debug)]
pub(crate) struct Nss;

impl Metric for Nss {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "nss".into(),
            title: "normalised scanpath saliency".into(),
            family: Family::Agreement,
            better: Direction::Higher,
            unit: "standard deviations",
            range: [f64::NEG_INFINITY, f64::INFINITY],
            source: "Peters et al., 2005",
            passes: 0,
            needs: Requirement::Fixations,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let [_, width] = attributions.batch().size();
        let value = |(index, map): (usize, &[f32])| nss(map, width, &attributions.ground_truth(index)?.fixations);
        Ok(attributions.maps().enumerate().map(value).collect())
    }
}

fn nss(map: &[f32], width: usize, fixations: &[[usize; 2]]) -> Option<f64> {
    let count = map.len() as f64;
    let mean = map.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = map.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let constant = map.iter().all(|value| Some(value) == map.first()); // its variance may be rounded to above 0
    let at_fixations: Vec<f64> = fixations
        .iter()
        .filter_map(|[row, column]| map.get(row * width + column))
        .map(|value| f64::from(*value))
        .collect();
    let average = at_fixations.iter().sum::<f64>() / at_fixations.len() as f64;
    (!constant && !at_fixations.is_empty()).then(|| (average - mean) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_worked_out_by_hand() {
        // Of 1, 1, 3 and 3 the mean is 2 and the standard deviation 1.
        let map = [1.0, 1.0, 3.0, 3.0];
        assert_eq!(nss(&map, 2, &[[1, 0]]), Some(1.0));
        assert!((nss(&map, 2, &[[1, 0], [0, 1], [0, 0]]).unwrap() + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((nss(&map, 2, &[]), nss(&[0.3; 4], 2, &[[0, 0]])), (None, None));
    }
}
