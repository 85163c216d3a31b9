//! Average drop, increase in confidence and average gain: what is left of the classifier's confidence when it sees the
//! most important part of an image alone (Chattopadhay et al., 2018; average gain: Zhang et al., 2024).
//!
//! For v percent the map, upsampled to the input, keeps its largest v% of values (the others become 0) and is
//! multiplied into the un-normalised image. p_t is the softmax score of the class predicted for the whole image, p~_t
//! its score for the masked one.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | AD(v) | mean of max(0, p_t - p~_t) / p_t | percent | 0..100 | lower |
//! | IC(v) | share of images with p~_t > p_t | percent | 0..100 | higher |
//! | AG(v) | mean of max(0, p~_t - p_t) / (1 - p_t) | percent | 0..100 | higher |
//!
//! Cost: one forward pass a percentage and image; the clean pass is shared.

use burn::tensor::{Int, Tensor, TensorData, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;

use crate::objective::{Masking, upsample};

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
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
        let [_, _, height, width] = images.dims();
        let maps = upsample(maps, [height, width]);
        let clean = scores(logits, class);
        let mut rows: Vec<Confidence> = clean
            .into_iter()
            .map(|clean| Confidence { clean, masked: Vec::with_capacity(self.percents.len()) })
            .collect();
        for percent in &self.percents {
            let kept = keep_top(maps.clone(), *percent);
            let masked = Masking::BeforeNorm.apply(images.clone(), kept, preprocessing);
            let seen = scores(backbone.observe(masked, &[]).logits, class);
            rows.iter_mut().zip(seen).for_each(|(row, p)| row.masked.push(p));
        }
        rows
    }

    /// AD, IC and AG at each percentage over these images; NaN for none.
    pub fn summary(&self, rows: &[Confidence]) -> Vec<Summary> {
        let mean = |value: &dyn Fn(&Confidence) -> f64| 100.0 * rows.iter().map(value).sum::<f64>() / rows.len() as f64;
        self.percents
            .iter()
            .enumerate()
            .map(|(i, percent)| {
                let pair =
                    |row: &Confidence| (f64::from(row.clean), f64::from(row.masked.get(i).copied().unwrap_or(0.0)));
                Summary {
                    percent: *percent,
                    ad: mean(&|row| {
                        let (p, q) = pair(row);
                        (p - q).max(0.0) / p.max(f64::MIN_POSITIVE)
                    }),
                    ic: mean(&|row| {
                        let (p, q) = pair(row);
                        f64::from(u8::from(q > p))
                    }),
                    ag: mean(&|row| {
                        let (p, q) = pair(row);
                        (q - p).max(0.0) / (1.0 - p).max(f64::from(f32::EPSILON))
                    }),
                }
            })
            .collect()
    }
}

/// Softmax score of one class each: logits `[B,K]`, class `[B]`.
fn scores(logits: Tensor<2>, class: &Tensor<1, Int>) -> Vec<f32> {
    softmax(logits, 1).gather(1, class.clone().unsqueeze_dim(1)).into_data().iter::<f32>().collect()
}

/// Sets the values of each map `[B,1,H,W]` that lie under its (1 - v) quantile to 0; the quantile interpolates linearly
/// between order statistics, as PyTorch's does. 100 percent keeps everything.
pub fn keep_top(maps: Tensor<4>, percent: f64) -> Tensor<4> {
    let shape = maps.dims();
    let device = maps.device();
    let mut values: Vec<f32> = maps.into_data().iter::<f32>().collect();
    let size = shape[1] * shape[2] * shape[3];
    for map in values.chunks_mut(size.max(1)) {
        if map.iter().any(|v| !v.is_finite()) {
            map.fill(0.0);
            continue;
        }
        let threshold = quantile(map, 1.0 - percent / 100.0);
        map.iter_mut().filter(|v| **v < threshold).for_each(|v| *v = 0.0);
    }
    Tensor::from_data(TensorData::new(values, shape), &device)
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
    use burn::tensor::Device;
    use explainer_zoo::backbone::{Answer, BackboneSpec, Cotangent, Observed, Tap, TapId};
    use explainer_zoo::image::Filter;

    /// A classifier of brightness: its logits are the mean of the normalised image, and 0.
    #[derive(Debug)]
    struct Brightness(BackboneSpec);

    impl Backbone for Brightness {
        fn spec(&self) -> &BackboneSpec {
            &self.0
        }

        fn observe(&self, images: Tensor<4>, _: &[TapId]) -> Observed {
            let [batch, ..] = images.dims();
            let mean: Tensor<2> = images.mean_dim(3).mean_dim(2).mean_dim(1).reshape([batch, 1]);
            Observed { logits: Tensor::cat(vec![mean.clone(), mean.zeros_like()], 1), taps: Vec::new() }
        }

        fn answer(&self, _: Tensor<4>, _: Cotangent<'_>) -> Answer {
            panic!("the metric asks for no gradient")
        }

        fn answer_at(&self, _: Tensor<4>, _: TapId, _: Tap, _: Cotangent<'_>) -> Answer {
            panic!("the metric asks for no gradient")
        }
    }

    #[test]
    fn a_hole_is_black_as_the_images_were_normalised() {
        let device = Device::default();
        let own = Preprocessing { resize: 2, crop: 2, filter: Filter::Bilinear, mean: [0.5; 3], std: [0.5; 3] };
        let backbone = Brightness(BackboneSpec {
            name: "brightness".into(),
            preprocessing: Preprocessing { mean: [0.0; 3], std: [1.0; 3], ..own.clone() },
            classes: 2,
            taps: Vec::new(),
            default_taps: Vec::new(),
            auxiliary_taps: Vec::new(),
            weights_sha256: None,
        });
        let images = own.normalise(Tensor::ones([1, 3, 2, 2], &device));
        let logits = backbone.observe(images.clone(), &[]).logits;
        let class = Tensor::<1, Int>::zeros([1], &device);
        let metric = MaskedConfidence { percents: vec![100.0] };
        let hidden = Tensor::zeros([1, 1, 2, 2], &device);
        let rows = metric.measure(&backbone, &own, &images, logits, &class, hidden);
        let score = 1.0 / (1.0 + std::f32::consts::E); // black is (0 - 0.5) / 0.5 = -1, against the other class's 0
        assert!((rows[0].masked[0] - score).abs() < 1e-6, "{rows:?}");
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
    fn odd_maps_have_defined_masks() {
        let device = Device::default();
        let constant = keep_top(Tensor::full([1, 1, 2, 2], 0.5, &device), 15.0);
        assert_eq!(constant.into_data().try_to_vec::<f32>().unwrap(), [0.5; 4]);
        let broken = Tensor::from_data(TensorData::new(vec![f32::NAN, 1.0, 0.0, 0.5], [1, 1, 2, 2]), &device);
        assert_eq!(keep_top(broken, 100.0).into_data().try_to_vec::<f32>().unwrap(), [0.0; 4]);
    }
}
