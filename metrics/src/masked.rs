//! Average drop, increase in confidence and average gain: what is left of the classifier's confidence when it sees the
//! most important part of an image alone (Chattopadhay et al., 2018; average gain: Zhang et al., 2024).
//!
//! For v percent the map, upsampled to the input, keeps its largest v% of values (the others become 0) and is
//! multiplied into the un-normalised image. p_t is the softmax score of the explained class (the predicted one) for the
//! whole image, p~_t its score for the masked one. A figure is the mean over images.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `ad@V` | max(0, p_t - p~_t) / p_t | percent | 0..100 | lower |
//! | `ic@V` | 100 where p~_t > p_t, else 0 | percent | 0..100 | higher |
//! | `ag@V` | max(0, p~_t - p_t) / (1 - p_t) | percent | 0..100 | higher |
//! | `adp`, `pic` | `ad` and `ic` with the whole map, V = 100 (Barkan et al., 2025) | percent | 0..100 | lower, higher |
//!
//! Cost: one forward pass for each percentage and map, which the metrics of a percentage share. 100 percent keeps the
//! map as it is; a constant map keeps every pixel at every percentage.

use std::rc::Rc;

use burn::tensor::{Int, Tensor, TensorData};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;

use super::{Attributions, Better, ImageBatch, Metric, MetricError, MetricSpec, Needs};
use explainer_zoo::masking::Masking;

/// What is made of the two confidences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Average drop.
    Drop,
    /// Increase in confidence.
    Increase,
    /// Average gain.
    Gain,
}

impl Figure {
    /// Of the confidence `p` in the whole image and `q` in the masked one, in 0..=1.
    fn of(self, p: f32, q: f32) -> f64 {
        let (p, q) = (f64::from(p), f64::from(q));
        match self {
            Self::Drop => (p - q).max(0.0) / p.max(f64::MIN_POSITIVE),
            Self::Increase => f64::from(u8::from(q > p)),
            Self::Gain => (q - p).max(0.0) / (1.0 - p).max(f64::from(f32::EPSILON)),
        }
    }
}

/// AD, IC or AG as a [`Metric`].
#[derive(Clone, Debug)]
pub(super) struct Masked {
    pub name: String,
    pub figure: Figure,
    /// In percent, in 0..=100.
    pub kept: f64,
}

impl Masked {
    pub(super) fn new(stem: &str, figure: Figure, kept: f64) -> Self {
        Self { name: format!("{stem}@{kept}"), figure, kept }
    }
}

impl Metric for Masked {
    fn spec(&self) -> MetricSpec {
        let (title, better, source) = match self.figure {
            Figure::Drop => ("average drop", Better::Lower, "Chattopadhay et al., 2018"),
            Figure::Increase => ("increase in confidence", Better::Higher, "Chattopadhay et al., 2018"),
            Figure::Gain => ("average gain", Better::Higher, "Zhang et al., 2024"),
        };
        let title = format!("{title}, {}% of the pixels kept", self.kept);
        let name = self.name.clone();
        MetricSpec {
            name,
            title,
            better,
            unit: "percent",
            range: [0.0, 100.0],
            source,
            passes: 1,
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let masked = confidences(case, self.kept);
        let value = |(map, q): (usize, &f32)| Some(100.0 * self.figure.of(case.clean(map).score, *q));
        Ok(masked.iter().enumerate().map(value).collect())
    }
}

/// Images `of` times a map each, of which `maps` has the H W values one after the other; 0 leaves black. Normalised.
pub(super) fn mask(subject: &ImageBatch<'_>, of: &[usize], maps: Vec<f32>) -> Tensor<4> {
    let [height, width] = subject.size();
    let maps = Tensor::from_data(TensorData::new(maps, [of.len(), 1, height, width]), &subject.device());
    Masking::BeforeNorm.apply(subject.pick(of), maps, subject.preprocessing())
}

/// p~_t of each map with its top `percent` of pixels kept.
pub(super) fn confidences(case: &Attributions<'_>, percent: f64) -> Rc<Vec<f32>> {
    case.memo().get(&format!("masked {percent}"), || {
        let (subject, of, maps) = (case.subject(), case.images(), case.maps().collect::<Vec<_>>());
        let looks = subject.predict(of, |range| {
            let kept = maps[range.clone()].iter().flat_map(|map| keep_top(map, percent)).collect();
            mask(subject, &of[range], kept)
        });
        looks.into_iter().map(|look| look.score).collect()
    })
}

/// The map with the values under its (1 - v) quantile set to 0; the quantile interpolates linearly between order
/// statistics, as PyTorch's does. 100 percent keeps everything.
fn keep_top(map: &[f32], percent: f64) -> Vec<f32> {
    let threshold = quantile(map, 1.0 - percent / 100.0);
    map.iter().map(|value| if *value < threshold { 0.0 } else { *value }).collect()
}

/// AD, IC and AG at chosen percentages.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedConfidence {
    /// Share of the pixels that is kept, in percent, each in 0..=100. 100 keeps the map as it is.
    pub percents: Vec<f64>,
}

impl Default for MaskedConfidence {
    /// 100, 50 and 15 percent, as the T-TAME paper reports them.
    fn default() -> Self {
        Self { percents: vec![100.0, 50.0, 15.0] }
    }
}

/// One image's confidences in its predicted class, in 0..=1.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Confidence {
    /// p_t of the whole image.
    pub clean: f32,
    /// p~_t for each percentage.
    pub masked: Vec<f32>,
}

/// Figures at one percentage, in percent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
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
    /// Confidences of a batch: images `[B,3,H,W]` as `preprocessing` normalised them, their clean logits `[B,K]`, the
    /// explained class `[B]` and its maps `[B,1,h,w]` in 0..1.
    ///
    /// A constant map keeps every pixel at every percentage; a map with values that are not numbers counts as all
    /// zeros, a black image.
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
        let of = (0..classes.len()).collect();
        let subject = ImageBatch::unchecked(backbone, preprocessing, images.clone(), logits, classes);
        self.confidences(&Attributions::unchecked(&subject, maps, of))
    }

    /// Confidences of each map of a case.
    pub fn confidences(&self, case: &Attributions<'_>) -> Vec<Confidence> {
        let masked: Vec<Rc<Vec<f32>>> = self.percents.iter().map(|percent| confidences(case, *percent)).collect();
        let row = |map: usize| Confidence {
            clean: case.clean(map).score,
            masked: masked.iter().filter_map(|scores| scores.get(map).copied()).collect(),
        };
        (0..case.len()).map(row).collect()
    }

    /// AD, IC and AG at each percentage over these images; NaN for none.
    pub fn summary(&self, rows: &[Confidence]) -> Vec<Summary> {
        let summary = |(i, percent): (usize, &f64)| {
            let mean = |figure: Figure| {
                let value = |row: &Confidence| figure.of(row.clean, row.masked.get(i).copied().unwrap_or(0.0));
                100.0 * rows.iter().map(value).sum::<f64>() / rows.len() as f64
            };
            let [ad, ic, ag] = [Figure::Drop, Figure::Increase, Figure::Gain].map(mean);
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
    use super::super::testing::{Brightness, image, map, plain, subject};
    use super::*;

    #[test]
    fn a_hole_is_black_as_the_images_were_normalised() {
        // White is 1 under this preprocessing, and black 0.25: (v + 1/3) / (4/3).
        let own = Preprocessing { mean: [-1.0 / 3.0; 3], std: [4.0 / 3.0; 3], ..plain() };
        let backbone = Brightness::new();
        let images = own.normalise(image(&[1.0; 4], [2, 2]));
        let logits = backbone.forward(images.clone(), &[]).logits;
        let class = Tensor::<1, Int>::zeros([1], &images.device());
        let metric = MaskedConfidence { percents: vec![100.0] };
        let rows = metric.measure(&backbone, &own, &images, logits, &class, map(&[0.0; 4], [2, 2]));
        assert!((rows[0].masked[0] - 0.25).abs() < 1e-6, "{rows:?}");
    }

    #[test]
    fn the_top_of_a_map_keeps_its_part_of_the_confidence() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.8, 0.8, 0.4, 0.4], [2, 2])); // p = 0.6
        let maps = Tensor::cat(vec![map(&[1.0, 0.5, 0.25, 0.0], [2, 2]), map(&[f32::NAN; 4], [2, 2])], 0);
        let case = Attributions::of(&subject, maps, vec![0, 0]).unwrap();
        let measured = |figure, kept| Masked::new("x", figure, kept).measure(&case).unwrap();
        // All: (0.8 + 0.4 + 0.1) / 4 = 0.325. Half: (0.8 + 0.4) / 4 = 0.3.
        for (kept, left) in [(100.0, 0.325), (50.0, 0.3), (25.0, 0.2)] {
            let drop = measured(Figure::Drop, kept);
            assert!((drop[0].unwrap() - 100.0 * (0.6 - left) / 0.6).abs() < 1e-3, "{kept}: {drop:?}");
            assert_eq!(drop[1], None, "a map that is not finite has no value");
            assert_eq!(measured(Figure::Increase, kept), [Some(0.0), None]);
            assert_eq!(measured(Figure::Gain, kept), [Some(0.0), None]);
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
    fn figures_by_hand() {
        let metric = MaskedConfidence { percents: vec![50.0] };
        let row = |clean, masked| Confidence { clean, masked: vec![masked] };
        let [summary] = metric.summary(&[row(0.8, 0.4), row(0.5, 0.75)])[..] else { panic!() };
        assert!(
            (summary.ad - 25.0).abs() < 1e-4 && summary.ic == 50.0 && (summary.ag - 25.0).abs() < 1e-4,
            "{summary:?}"
        );
    }

    #[test]
    fn a_constant_map_keeps_every_pixel() {
        assert_eq!(keep_top(&[0.5; 4], 15.0), [0.5; 4]);
        assert_eq!(keep_top(&[0.5, 0.1, 0.3, 0.2], 50.0), [0.5, 0.0, 0.3, 0.0]);
    }
}
