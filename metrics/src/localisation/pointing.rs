//! Pointing games: does the map's mass, or its maximum, lie on the object?
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `pointing` | 100 where the map's largest value lies on the object, else 0 (Zhang et al., 2018) | percent | 0..100 | higher |
//! | `energy-pointing` | share of the map's mass in the object's boxes (Wang et al., 2020, "Score-CAM") | percent | 0..100 | higher |
//! | `weighting` | share of the map's mass on the object's mask (Raatikainen and Rahtu, 2022) | percent | 0..100 | higher |
//!
//! The object is the mask where there is one, or else all boxes; a mask without boxes has its bounding box. Where several
//! pixels share the largest value, `pointing` is the share of them on the object: the expected value if one of them were
//! drawn. Undefined without an object (`weighting`: without a mask); `energy-pointing` and `weighting` also for a map without
//! mass. No tolerance is added around the object.
//!
//! Cost: no forward pass.

use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// The pointing games.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pointing {
    /// Position of the largest value.
    Largest,
    /// Mass in the boxes.
    Energy,
    /// Mass on the mask.
    Weighting,
}

impl Metric for Pointing {
    fn spec(&self) -> MetricSpec {
        let (name, title, source) = match self {
            Self::Largest => ("pointing", "pointing game, largest value on the object", "Zhang et al., 2018"),
            Self::Energy => ("energy-pointing", "energy pointing game, mass in the boxes", "Wang et al., 2020"),
            Self::Weighting => ("weighting", "weighting game, mass on the mask", "Raatikainen and Rahtu, 2022"),
        };
        MetricSpec {
            name: name.into(),
            title: title.into(),
            family: Family::Localisation,
            better: Direction::Higher,
            unit: "percent",
            range: [0.0, 100.0],
            source,
            passes: 0,
            needs: Requirement::Objects,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let size = attributions.batch().size();
        let value = |(index, map): (usize, &[f32])| {
            let truth = attributions.ground_truth(index)?;
            let share = match self {
                Self::Largest => largest(map, &truth.object_mask(size)?),
                Self::Energy => mass(map, &truth.box_mask(size)?),
                Self::Weighting => mass(map, truth.mask.as_ref()?),
            };
            share.map(|share| 100.0 * share)
        };
        Ok(attributions.maps().enumerate().map(value).collect())
    }
}

/// Share of the pixels with the largest value that lie inside.
fn largest(map: &[f32], inside: &[bool]) -> Option<f64> {
    let top = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let at_top = |inside: &&bool, value: &f32| *value == top && **inside;
    let all = map.iter().filter(|value| **value == top).count();
    let hits = inside.iter().zip(map).filter(|(inside, value)| at_top(inside, value)).count();
    (all > 0).then(|| hits as f64 / all as f64)
}

/// Share of the map's mass that lies inside.
fn mass(map: &[f32], inside: &[bool]) -> Option<f64> {
    let all: f64 = map.iter().map(|value| f64::from(*value)).sum();
    let hit: f64 = map.iter().zip(inside).filter(|(_, inside)| **inside).map(|(value, _)| f64::from(*value)).sum();
    (all > 0.0).then(|| hit / all)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::testing::{batch, brightness, image, map};
    use crate::{GroundTruth, PixelBox};

    #[test]
    fn shares_worked_out_by_hand() {
        let backbone = brightness();
        let images = Tensor::cat(vec![image(&[0.5; 6], [2, 3]); 3], 0);
        let mask = vec![false, true, false, false, true, true]; // its box: columns 1 and 2
        let boxes =
            GroundTruth { boxes: vec![PixelBox { top: 0, left: 0, bottom: 1, right: 2 }], ..GroundTruth::default() };
        let truth = vec![GroundTruth::from_mask(mask, 3), boxes, GroundTruth::default()];
        let batch = batch(&backbone, images).with_ground_truth(truth).unwrap();
        let one = map(&[0.1, 0.2, 0.4, 0.0, 0.3, 0.0], [2, 3]);
        let two = map(&[0.0; 6], [2, 3]);
        let attributions =
            MetricInput::for_images(&batch, Tensor::cat(vec![one.clone(), one.clone(), one, two], 0), vec![0, 1, 2, 0])
                .unwrap();
        let near = |metric: Pointing, expected: [Option<f64>; 4]| {
            for (found, expected) in metric.measure(&attributions).unwrap().into_iter().zip(expected) {
                let same = found.zip(expected).is_none_or(|(a, b)| (a - b).abs() < 1e-4);
                assert!(same && found.is_some() == expected.is_some(), "{metric:?}: {found:?}, {expected:?}");
            }
        };
        // The largest value is at row 0, column 2: in neither object, though in the box of the first. The constant map
        // has its largest value everywhere.
        near(Pointing::Largest, [Some(0.0), Some(0.0), None, Some(50.0)]);
        near(Pointing::Energy, [Some(90.0), Some(30.0), None, None]);
        near(Pointing::Weighting, [Some(50.0), None, None, None]);
    }
}
