//! Saliency metric and localisation error (Dabkowski and Gal, 2017): what the tightest crop around a map's salient region
//! holds.
//!
//! The salient region is where the upsampled map is at least T times its mean (1 by default; the best T of a validation
//! set is found by trying). The crop is the smallest rectangle around it, and a its share of the image's area.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `ssr[@T]` | ln max(a, 0.05) - ln p, p the score of the explained class for the crop, resized to the input | nat | ln 0.05 and above | lower |
//! | `localisation-error[@T]` | 0 where intersection over union of the crop and one of the object's boxes is above 1/2, else 100 | percent | 0..100 | lower |
//!
//! The crop is resized bilinearly. A constant map's crop is the whole image (for T up to 1). Undefined where no pixel is
//! salient; `localisation-error` without boxes.
//!
//! Cost: 1 forward pass for `ssr`, none for `localisation-error`.

use burn::tensor::Tensor;

use super::{Attributions, Better, Metric, MetricError, MetricSpec, Needs};
use crate::PixelBox;
use explainer_zoo::bilinear::resize;

/// The least share of the image that a crop counts as.
const LEAST: f64 = 0.05;

/// The saliency metric.
#[derive(Clone, Debug)]
pub(super) struct Ssr {
    /// Threshold over the map's mean.
    pub times: f64,
}

/// Localisation error.
#[derive(Clone, Debug)]
pub(super) struct LocalisationError {
    /// Threshold over the map's mean.
    pub times: f64,
}

impl Metric for Ssr {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: named("ssr", self.times),
            title: "saliency metric: crop's area against its score".into(),
            better: Better::Lower,
            unit: "nat",
            range: [LEAST.ln(), f64::INFINITY],
            source: "Dabkowski and Gal, 2017",
            passes: 1,
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let subject = case.subject();
        let [height, width] = subject.size();
        let whole = PixelBox { top: 0, left: 0, bottom: height, right: width };
        let crops: Vec<Option<PixelBox>> = case.maps().map(|map| salient(map, width, self.times)).collect();
        let of = case.images();
        let looks = subject.predict(of, |range| {
            let resized = range.map(|map| {
                let PixelBox { top, left, bottom, right } = crops[map].unwrap_or(whole);
                let crop = subject.pick(&of[map..=map]).slice([0..1, 0..3, top..bottom, left..right]);
                resize(crop, [height, width])
            });
            Tensor::cat(resized.collect(), 0)
        });
        let value = |(crop, look): (&Option<PixelBox>, super::Prediction)| {
            let share = (*crop)?.pixels() as f64 / (height * width) as f64;
            Some(share.max(LEAST).ln() - f64::from(look.score).ln())
        };
        Ok(crops.iter().zip(looks).map(value).collect())
    }
}

impl Metric for LocalisationError {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: named("localisation-error", self.times),
            title: "localisation error of the salient crop".into(),
            better: Better::Lower,
            unit: "percent",
            range: [0.0, 100.0],
            source: "Dabkowski and Gal, 2017",
            passes: 0,
            needs: Needs::Objects,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let [_, width] = case.subject().size();
        let value = |(index, map): (usize, &[f32])| {
            let boxes = &case.truth(index)?.boxes;
            let crop = salient(map, width, self.times).filter(|_| !boxes.is_empty())?;
            let found = boxes.iter().any(|object| crop.overlap(*object) > 0.5);
            Some(if found { 0.0 } else { 100.0 })
        };
        Ok(case.maps().enumerate().map(value).collect())
    }
}

fn named(stem: &str, times: f64) -> String {
    if times == 1.0 { stem.to_owned() } else { format!("{stem}@{times}") }
}

/// The smallest rectangle around the pixels whose value is at least `times` the map's mean.
fn salient(map: &[f32], width: usize, times: f64) -> Option<PixelBox> {
    let mean = map.iter().map(|value| f64::from(*value)).sum::<f64>() / map.len() as f64;
    // Summing rounds: the values of a constant map are not to fall below their own mean.
    let threshold = times * mean - 1e-9 * mean.abs();
    PixelBox::around(&map.iter().map(|value| f64::from(*value) >= threshold).collect::<Vec<_>>(), width)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, map, subject};
    use super::*;
    use crate::GroundTruth;

    /// 4 x 5 pixels, 0.8 in a rectangle of 2 x 2 and 0.2 elsewhere.
    fn scene() -> Vec<f32> {
        (0..20).map(|i| if [6, 7, 11, 12].contains(&i) { 0.8 } else { 0.2 }).collect()
    }

    #[test]
    fn the_crop_s_score_and_area_make_the_metric() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&scene(), [4, 5]));
        let maps = vec![map(&scene(), [4, 5]), map(&[0.3; 20], [4, 5])];
        let case = Attributions::of(&subject, Tensor::cat(maps, 0), vec![0, 0]).unwrap();
        let found = Ssr { times: 1.0 }.measure(&case).unwrap();
        // The crop is 2 x 2 of 20 pixels, all 0.8; the constant map's crop is the whole image with score 0.32.
        let expected = [0.2_f64.ln() - 0.8_f64.ln(), -(0.32_f64.ln())];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        }
        // Twice the mean 0.32 is exceeded inside, three times nowhere.
        assert!((Ssr { times: 2.0 }.measure(&case).unwrap()[0].unwrap() - expected[0]).abs() < 1e-5);
        assert_eq!(Ssr { times: 3.0 }.measure(&case).unwrap(), [None, None]);
    }

    #[test]
    fn a_box_is_found_where_half_of_the_union_is_shared() {
        let backbone = Brightness::new();
        let object = |right| GroundTruth {
            boxes: vec![PixelBox { top: 1, left: 1, bottom: 3, right }],
            ..GroundTruth::default()
        };
        let images = Tensor::cat(vec![image(&scene(), [4, 5]); 3], 0);
        let subject =
            subject(&backbone, images).with_ground_truth(vec![object(4), object(5), GroundTruth::default()]).unwrap();
        let maps = Tensor::cat(vec![map(&scene(), [4, 5]); 3], 0);
        let case = Attributions::new(&subject, maps).unwrap();
        // 4 of 6 pixels, and 4 of 8, which is not above one half.
        assert_eq!(LocalisationError { times: 1.0 }.measure(&case).unwrap(), [Some(0.0), Some(100.0), None]);
    }
}
