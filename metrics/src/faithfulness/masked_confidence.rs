//! Average drop, increase in confidence and average gain: how the classifier's confidence changes when it sees only the
//! most important part of an image (Chattopadhay et al., 2018, "Grad-CAM++"; average gain: Zhang et al., 2024).
//!
//! For V percent, the upsampled map keeps its largest V% of values (the others become 0) and is multiplied into the
//! image before normalisation. p_t is the softmax score of the target class t for the clean image, p~_t for the masked one.
//! The usual result is the mean over images.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `ad@V` | max(0, p_t - p~_t) / p_t | percent | 0..100 | lower |
//! | `ic@V` | 100 where p~_t > p_t, else 0 | percent | 0..100 | higher |
//! | `ag@V` | max(0, p~_t - p_t) / (1 - p_t) | percent | 0..100 | higher |
//! | `adp`, `pic` | `ad` and `ic` with the whole map, V = 100 (Barkan et al., 2025, "BEE") | percent | 0..100 | lower, higher |
//!
//! 100 percent keeps the map as it is; a constant map keeps every pixel at every percentage.
//!
//! Cost: one forward pass for each map and percentage, which all metrics of that percentage share.

use std::rc::Rc;

use burn::tensor::{Int, Tensor, TensorData};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::masking::Masking;
use serde::{Deserialize, Serialize};

use crate::{Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, Requirement};

/// How a change of the confidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfidenceChange {
    /// Average drop.
    Drop,
    /// Increase in confidence.
    Increase,
    /// Average gain.
    Gain,
}

impl ConfidenceChange {
    /// Of the confidence `clean` in the clean image and `masked` in the masked one, in 0..=1.
    fn of(self, clean: Option<f32>, masked: Option<f32>) -> Option<f64> {
        let (p, q) = (f64::from(clean?), f64::from(masked?));
        Some(match self {
            Self::Drop => (p - q).max(0.0) / p.max(f64::MIN_POSITIVE),
            Self::Increase => f64::from(u8::from(q > p)),
            Self::Gain => (q - p).max(0.0) / (1.0 - p).max(f64::from(f32::EPSILON)),
        })
    }
}

/// AD, IC or AG at one percentage.
#[derive(Clone, Debug)]
pub(crate) struct MaskedConfidenceMetric {
    name: String,
    change: ConfidenceChange,
    /// Share of the pixels that is kept, in percent, in 0..=100.
    kept: f64,
}

impl MaskedConfidenceMetric {
    /// The metric `stem@kept`.
    pub(crate) fn new(stem: &str, change: ConfidenceChange, kept: f64) -> Self {
        Self { name: format!("{stem}@{kept}"), change, kept }
    }

    /// The metric `name` with the whole map.
    pub(crate) fn whole(name: &str, change: ConfidenceChange) -> Self {
        Self { name: name.into(), change, kept: 100.0 }
    }
}

impl Metric for MaskedConfidenceMetric {
    fn spec(&self) -> MetricSpec {
        let (title, better, source) = match self.change {
            ConfidenceChange::Drop => ("average drop", Direction::Lower, "Chattopadhay et al., 2018"),
            ConfidenceChange::Increase => ("increase in confidence", Direction::Higher, "Chattopadhay et al., 2018"),
            ConfidenceChange::Gain => ("average gain", Direction::Higher, "Zhang et al., 2024"),
        };
        MetricSpec {
            name: self.name.clone(),
            title: format!("{title}, {}% of the pixels kept", self.kept),
            family: Family::Faithfulness,
            better,
            unit: "percent",
            range: [0.0, 100.0],
            source,
            passes: 1,
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let masked = masked_scores(attributions, self.kept);
        let value = |(map, masked): (usize, &Option<f32>)| {
            let clean = attributions.clean(map).map(|clean| clean.score);
            self.change.of(clean, *masked).map(|change| 100.0 * change)
        };
        Ok(masked.iter().enumerate().map(value).collect())
    }
}

/// Images multiplied with maps before normalisation: 0 is black. `maps` has the H W values of each map one after the other,
/// map n for image `indices[n]`. Returns normalised images `[n,3,H,W]`.
pub(super) fn mask(batch: &ImageBatch<'_>, indices: &[usize], maps: Vec<f32>) -> Tensor<4> {
    let [height, width] = batch.size();
    let maps = Tensor::from_data(TensorData::new(maps, [indices.len(), 1, height, width]), &batch.device());
    Masking::BeforeNorm.apply(batch.select(indices), maps, batch.preprocessing())
}

/// p~_t of each map with its top `percent` of pixels kept; `None` where the classifier's scores are not finite.
pub(super) fn masked_scores(attributions: &MetricInput<'_>, percent: f64) -> Rc<Vec<Option<f32>>> {
    attributions.cache().get_or_compute(&format!("masked {percent}"), || {
        let (batch, images) = (attributions.batch(), attributions.image_indices());
        let maps: Vec<&[f32]> = attributions.maps().collect();
        let predictions = batch.predict(images, |range| {
            let kept = maps[range.clone()].iter().flat_map(|map| keep_top(map, percent)).collect();
            mask(batch, &images[range], kept)
        });
        predictions.into_iter().map(|prediction| prediction.map(|masked| masked.score)).collect()
    })
}

/// The map with the values below its (1 - V) quantile set to 0. The quantile interpolates linearly between order
/// statistics, as PyTorch's does. 100 percent keeps everything.
fn keep_top(map: &[f32], percent: f64) -> Vec<f32> {
    let threshold = quantile(map, 1.0 - percent / 100.0);
    map.iter().map(|value| if *value < threshold { 0.0 } else { *value }).collect()
}

/// AD, IC and AG at several percentages.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedConfidence {
    /// Share of the pixels that is kept, in percent, each in 0..=100. 100 keeps the map as it is.
    pub percents: Vec<f64>,
}

impl Default for MaskedConfidence {
    /// 100, 50 and 15 percent, as in the T-TAME paper.
    fn default() -> Self {
        Self { percents: vec![100.0, 50.0, 15.0] }
    }
}

/// The classifier's confidence in the target class of one image, in 0..=1; `None` where it is undefined: the map or the
/// classifier's scores are not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// p_t of the clean image.
    pub clean: Option<f32>,
    /// p~_t of the masked image, for each percentage.
    pub masked: Vec<Option<f32>>,
}

/// Means over images at one percentage, in percent. NaN without images, and where the value of any image is undefined: a
/// mean over the other images would not be comparable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Share of the pixels that was kept.
    pub percent: f64,
    /// Average drop; lower is better.
    pub ad: f64,
    /// Increase in confidence; higher is better.
    pub ic: f64,
    /// Average gain; higher is better.
    pub ag: f64,
}

impl MaskedConfidence {
    /// Confidences of a batch: images `[B,3,H,W]`, normalised by `preprocessing`, their logits `[B,K]` from the clean
    /// forward pass, target classes `[B]`, and heat maps `[B,1,h,w]` in 0..=1.
    pub fn measure(
        &self,
        backbone: &dyn Backbone,
        preprocessing: &Preprocessing,
        images: &Tensor<4>,
        logits: Tensor<2>,
        class: &Tensor<1, Int>,
        maps: Tensor<4>,
    ) -> Vec<Confidence> {
        let classes: Vec<usize> = class.to_data().iter::<i64>().map(|class| class as usize).collect();
        let indices = (0..classes.len()).collect();
        let batch = ImageBatch::unchecked(backbone, preprocessing, images.clone(), logits, classes);
        self.confidences(&MetricInput::unchecked(&batch, maps, indices))
    }

    /// Confidences of each map.
    pub fn confidences(&self, attributions: &MetricInput<'_>) -> Vec<Confidence> {
        let scores = |percent: &f64| masked_scores(attributions, *percent);
        let masked: Vec<Rc<Vec<Option<f32>>>> = self.percents.iter().map(scores).collect();
        let row = |(map, finite): (usize, &bool)| Confidence {
            clean: attributions.clean(map).map(|clean| clean.score),
            masked: masked.iter().map(|scores| scores.get(map).copied().flatten().filter(|_| *finite)).collect(),
        };
        attributions.finite().iter().enumerate().map(row).collect()
    }

    /// AD, IC and AG at each percentage over these images.
    pub fn summary(&self, rows: &[Confidence]) -> Vec<Summary> {
        let summary = |(i, percent): (usize, &f64)| {
            let mean = |change: ConfidenceChange| {
                let value = |row: &Confidence| change.of(row.clean, row.masked.get(i).copied().flatten());
                let sum: Option<f64> = rows.iter().map(value).sum();
                sum.map_or(f64::NAN, |sum| 100.0 * sum / rows.len() as f64)
            };
            let [ad, ic, ag] = [ConfidenceChange::Drop, ConfidenceChange::Increase, ConfidenceChange::Gain].map(mean);
            Summary { percent: *percent, ad, ic, ag }
        };
        self.percents.iter().enumerate().map(summary).collect()
    }
}

fn quantile(values: &[f32], q: f64) -> f32 {
    if values.is_empty() || q <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let mut sorted = values.to_vec();
    let position = q.min(1.0) * (sorted.len() - 1) as f64;
    let (_, low, above) = sorted.select_nth_unstable_by(position as usize, f32::total_cmp);
    let next = above.iter().copied().fold(f32::INFINITY, f32::min);
    let fraction = position.fract();
    if fraction == 0.0 { *low } else { *low + ((next - *low) * fraction as f32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, image, map, plain};

    #[test]
    fn a_masked_pixel_is_black_before_normalisation() {
        // White is 1 under this preprocessing, and black 0.25: (v + 1/3) / (4/3).
        let own = Preprocessing { mean: [-1.0 / 3.0; 3], std: [4.0 / 3.0; 3], ..plain() };
        let backbone = brightness();
        let images = own.normalise(image(&[1.0; 4], [2, 2]));
        let logits = backbone.forward(images.clone(), &[]).logits;
        let class = Tensor::<1, Int>::zeros([1], &images.device());
        let metric = MaskedConfidence { percents: vec![100.0] };
        let rows = metric.measure(&backbone, &own, &images, logits, &class, map(&[0.0; 4], [2, 2]));
        assert!((rows[0].masked[0].unwrap() - 0.25).abs() < 1e-6, "{rows:?}");
    }

    #[test]
    fn changes_of_the_confidence_worked_out_by_hand() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.8, 0.8, 0.4, 0.4], [2, 2])); // p = 0.6
        let maps = Tensor::cat(vec![map(&[1.0, 0.5, 0.25, 0.0], [2, 2]), map(&[f32::NAN; 4], [2, 2])], 0);
        let attributions = MetricInput::for_images(&batch, maps, vec![0, 0]).unwrap();
        let measured = |change, kept| MaskedConfidenceMetric::new("x", change, kept).measure(&attributions).unwrap();
        // All: (0.8 + 0.4 + 0.1) / 4 = 0.325. Half: (0.8 + 0.4) / 4 = 0.3.
        for (kept, left) in [(100.0, 0.325), (50.0, 0.3), (25.0, 0.2)] {
            let drop = measured(ConfidenceChange::Drop, kept);
            assert!((drop[0].unwrap() - 100.0 * (0.6 - left) / 0.6).abs() < 1e-3, "{kept}: {drop:?}");
            assert_eq!(drop[1], None, "a map that is not finite has no value");
            assert_eq!(measured(ConfidenceChange::Increase, kept), [Some(0.0), None]);
            assert_eq!(measured(ConfidenceChange::Gain, kept), [Some(0.0), None]);
        }
    }

    #[test]
    fn the_quantile_interpolates() {
        let values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.5), 2.5);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert_eq!(quantile(&values, 1.0 / 3.0), 2.0);
        assert_eq!(quantile(&values, 0.0), f32::NEG_INFINITY);
    }

    #[test]
    fn means_by_hand() {
        let metric = MaskedConfidence { percents: vec![50.0] };
        let row = |clean, masked| Confidence { clean: Some(clean), masked: vec![Some(masked)] };
        let [summary] = metric.summary(&[row(0.8, 0.4), row(0.5, 0.75)])[..] else { panic!() };
        assert!(
            (summary.ad - 25.0).abs() < 1e-4 && summary.ic == 50.0 && (summary.ag - 25.0).abs() < 1e-4,
            "{summary:?}"
        );
    }

    #[test]
    fn an_undefined_confidence_makes_the_mean_undefined_and_not_perfect() {
        let backbone = brightness();
        let images = Tensor::cat(vec![image(&[0.5; 4], [2, 2]), image(&[f32::NAN; 4], [2, 2])], 0);
        let batch = batch(&backbone, images);
        let maps = [map(&[1.0; 4], [2, 2]), map(&[1.0; 4], [2, 2]), map(&[f32::NAN; 4], [2, 2])];
        let attributions = MetricInput::for_images(&batch, Tensor::cat(maps.to_vec(), 0), vec![0, 1, 0]).unwrap();
        let metric = MaskedConfidence { percents: vec![50.0] };
        let rows = metric.confidences(&attributions);
        assert!(rows[0].masked[0].is_some() && rows[0].clean.is_some(), "{rows:?}");
        assert_eq!(rows[1], Confidence { clean: None, masked: vec![None] }, "scores that are not finite");
        assert_eq!((rows[2].clean, rows[2].masked[0]), (rows[0].clean, None), "a map that is not finite");
        for undefined in &rows[1..] {
            let [Summary { ad, ic, ag, .. }] = metric.summary(&[rows[0].clone(), undefined.clone()])[..] else {
                panic!()
            };
            assert!(ad.is_nan() && ic.is_nan() && ag.is_nan(), "{ad} {ic} {ag}");
        }
        let [summary] = metric.summary(&[])[..] else { panic!() };
        assert!(summary.ad.is_nan());
    }

    #[test]
    fn a_constant_map_keeps_every_pixel() {
        assert_eq!(keep_top(&[0.5; 4], 15.0), [0.5; 4]);
        assert_eq!(keep_top(&[0.5, 0.1, 0.3, 0.2], 50.0), [0.5, 0.0, 0.3, 0.0]);
    }
}
