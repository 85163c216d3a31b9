//! Saliency metric (Dabkowski and Gal, 2017): the classifier's score for the smallest crop around a map's salient region. A
//! small crop with a high score is the smallest sufficient region (SSR).
//!
//! The salient region is where the upsampled map is at least T times its mean (1 by default; the paper chooses the best T on
//! a validation set). The crop is its bounding box, and a the crop's share of the image's area.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `ssr[@T]` | ln max(a, 0.05) - ln p, p the softmax score of the target class for the crop, resized to the input | nat | ln 0.05..88 | lower |
//!
//! The crop is resized bilinearly. A constant map's crop is the whole image (for T up to 1). p counts as at least
//! [`f32::MIN_POSITIVE`] (ln p = -87.3): a smaller softmax score underflows in single precision, and the worst case must not
//! become undefined. Undefined where no pixel is salient, and where p is not finite.
//!
//! Cost: 1 forward pass.

use burn::tensor::Tensor;
use explainer_zoo::bilinear::resize;

use crate::salient_region::{name, salient_box};
use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, PixelBox, Prediction, Requirement};

/// The smallest share of the image that a crop counts as.
const SMALLEST_AREA: f64 = 0.05;
/// The smallest score that a crop counts as.
const SMALLEST_SCORE: f32 = f32::MIN_POSITIVE;

/// The saliency metric.
#[derive(Clone, Debug)]
pub(crate) struct Ssr {
    /// Threshold of the salient region as a multiple of the map's mean.
    pub threshold: f64,
}

impl Metric for Ssr {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: name("ssr", self.threshold),
            title: "saliency metric: area of the salient crop against its score".into(),
            family: Family::Faithfulness,
            better: Direction::Lower,
            unit: "nat",
            range: [SMALLEST_AREA.ln(), -f64::from(SMALLEST_SCORE).ln()],
            source: "Dabkowski and Gal, 2017",
            passes: 1,
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let batch = attributions.batch();
        let [height, width] = batch.size();
        let whole = PixelBox { top: 0, left: 0, bottom: height, right: width };
        let crops: Vec<Option<PixelBox>> =
            attributions.maps().map(|map| salient_box(map, width, self.threshold)).collect();
        let images = attributions.image_indices();
        let predictions = batch.predict(images, |range| {
            let resized = range.map(|map| {
                let PixelBox { top, left, bottom, right } = crops[map].unwrap_or(whole);
                let crop = batch.select(&images[map..=map]).slice([0..1, 0..3, top..bottom, left..right]);
                resize(crop, [height, width])
            });
            Tensor::cat(resized.collect(), 0)
        });
        let value = |(crop, prediction): (&Option<PixelBox>, Option<Prediction>)| {
            let area = (*crop)?.area() as f64 / (height * width) as f64;
            let score = f64::from(prediction?.score.max(SMALLEST_SCORE));
            Some(area.max(SMALLEST_AREA).ln() - score.ln())
        };
        Ok(crops.iter().zip(predictions).map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, certain, image, map};

    /// 4 x 5 pixels, 0.8 in a rectangle of 2 x 2 and 0.2 elsewhere.
    fn scene() -> Vec<f32> {
        (0..20).map(|i| if [6, 7, 11, 12].contains(&i) { 0.8 } else { 0.2 }).collect()
    }

    #[test]
    fn the_crop_s_score_and_area_make_the_metric() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&scene(), [4, 5]));
        let maps = vec![map(&scene(), [4, 5]), map(&[0.3; 20], [4, 5])];
        let attributions = MetricInput::for_images(&batch, Tensor::cat(maps, 0), vec![0, 0]).unwrap();
        let found = Ssr { threshold: 1.0 }.measure(&attributions).unwrap();
        // The crop is 2 x 2 of 20 pixels, all 0.8; the constant map's crop is the whole image with score 0.32.
        let expected = [0.2_f64.ln() - 0.8_f64.ln(), -(0.32_f64.ln())];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        }
        // Twice the mean 0.32 is exceeded inside, three times nowhere.
        assert!((Ssr { threshold: 2.0 }.measure(&attributions).unwrap()[0].unwrap() - expected[0]).abs() < 1e-5);
        assert_eq!(Ssr { threshold: 3.0 }.measure(&attributions).unwrap(), [None, None]);
    }

    #[test]
    fn a_crop_without_any_score_is_the_worst_case_and_not_undefined() {
        let backbone = certain();
        let batch = batch(&backbone, image(&scene(), [4, 5]));
        let attributions = MetricInput::new(&batch, map(&scene(), [4, 5])).unwrap();
        assert_eq!(batch.predict(&[0], |_| batch.images().clone())[0].unwrap().score, 0.0, "the softmax underflows");
        let found = Ssr { threshold: 1.0 }.measure(&attributions).unwrap()[0].unwrap();
        assert!((found - (0.2_f64.ln() + 87.336_544)).abs() < 1e-4, "{found}");
    }
}
