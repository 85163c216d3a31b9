//! Normalised scanpath saliency (Peters et al., 2005): how high a map is where people look.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `nss` | mean, over the fixations, of (v - mean) / standard deviation of the map's values | standard deviations | any | higher |
//!
//! 0 is what a random place has. Undefined without fixations, and for a constant map.
//!
//! Cost: no pass.

use super::{Attributions, Better, Metric, MetricError, MetricSpec, Needs};

/// NSS.
#[derive(Clone, Debug)]
pub(super) struct Nss;

impl Metric for Nss {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: "nss".into(),
            title: "normalised scanpath saliency".into(),
            better: Better::Higher,
            unit: "standard deviations",
            range: [f64::NEG_INFINITY, f64::INFINITY],
            source: "Peters et al., 2005",
            passes: 0,
            needs: Needs::Fixations,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let [_, width] = case.subject().size();
        let value = |(index, map): (usize, &[f32])| nss(map, width, &case.truth(index)?.fixations);
        Ok(case.maps().enumerate().map(value).collect())
    }
}

fn nss(map: &[f32], width: usize, fixations: &[[usize; 2]]) -> Option<f64> {
    let count = map.len() as f64;
    let mean = map.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = map.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let constant = map.iter().all(|value| Some(value) == map.first()); // whatever rounding makes of its variance
    let seen: Vec<f64> = fixations
        .iter()
        .filter_map(|[row, column]| map.get(row * width + column))
        .map(|value| f64::from(*value))
        .collect();
    let at = seen.iter().sum::<f64>() / seen.len() as f64;
    (!constant && !seen.is_empty()).then(|| (at - mean) / variance.sqrt())
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
