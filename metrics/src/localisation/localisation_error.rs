//! Localisation error (Dabkowski and Gal, 2017): whether the crop around a map's salient region finds the object.
//!
//! The salient region is where the upsampled map is at least T times its mean (1 by default; the paper chooses the best T on
//! a validation set). The crop is its bounding box.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `localisation-error[@T]` | 0 where the intersection over union of the crop and one of the object's boxes is above 1/2, else 100 | percent | 0..100 | lower |
//!
//! A constant map's crop is the whole image (for T up to 1). Undefined where no pixel is salient, and without boxes.
//!
//! Cost: no forward pass.

use crate::salient_region::{name, salient_box};
use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// Localisation error.
#[derive(Clone, Debug)]
pub(crate) struct LocalisationError {
    /// Threshold of the salient region as a multiple of the map's mean.
    pub threshold: f64,
}

impl Metric for LocalisationError {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: name("localisation-error", self.threshold),
            title: "localisation error of the salient crop".into(),
            family: Family::Localisation,
            better: Direction::Lower,
            unit: "percent",
            range: [0.0, 100.0],
            source: "Dabkowski and Gal, 2017",
            passes: 0,
            needs: Requirement::Objects,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let [_, width] = attributions.batch().size();
        let value = |(index, map): (usize, &[f32])| {
            let boxes = &attributions.ground_truth(index)?.boxes;
            let crop = salient_box(map, width, self.threshold).filter(|_| !boxes.is_empty())?;
            let found = boxes.iter().any(|object| crop.iou(*object) > 0.5);
            Some(if found { 0.0 } else { 100.0 })
        };
        Ok(attributions.maps().enumerate().map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::testing::{batch, brightness, image, map};
    use crate::{GroundTruth, PixelBox};

    #[test]
    fn a_box_is_found_where_half_of_the_union_is_shared() {
        // 4 x 5 pixels, 0.8 in a rectangle of 2 x 2 and 0.2 elsewhere.
        let scene: Vec<f32> = (0..20).map(|i| if [6, 7, 11, 12].contains(&i) { 0.8 } else { 0.2 }).collect();
        let backbone = brightness();
        let object = |right| GroundTruth {
            boxes: vec![PixelBox { top: 1, left: 1, bottom: 3, right }],
            ..GroundTruth::default()
        };
        let images = Tensor::cat(vec![image(&scene, [4, 5]); 3], 0);
        let truth = vec![object(4), object(5), GroundTruth::default()];
        let batch = batch(&backbone, images).with_ground_truth(truth).unwrap();
        let maps = Tensor::cat(vec![map(&scene, [4, 5]); 3], 0);
        let attributions = MetricInput::new(&batch, maps).unwrap();
        // 4 of 6 pixels, and 4 of 8, which is not above one half.
        let found = LocalisationError { threshold: 1.0 }.measure(&attributions).unwrap();
        assert_eq!(found, [Some(0.0), Some(100.0), None]);
    }
}
