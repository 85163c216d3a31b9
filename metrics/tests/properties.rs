//! Properties that every registered metric has: values in its range, and no value where it is undefined.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::tensor::{Device, Tensor, TensorData};
use explainer_metrics::{
    ExplainFn, Family, GroundTruth, ImageBatch, Metric, MetricError, MetricInput, ModelState, metric, names,
};

use explainer_zoo::backbone::ClosureBackbone;
use proptest::prelude::*;

/// SSIM needs at least 11.
const SIDE: usize = 16;
/// Side of the maps before upsampling.
const MAP_SIDE: usize = 5;

/// Every registered metric, with few steps where their number is a parameter.
fn metrics() -> Vec<Box<dyn Metric>> {
    let name = |form: &String| {
        let (stem, parameter) = form.split_once('[').unwrap_or((form, ""));
        if ["@STEPS]", "@SQUARES]"].contains(&parameter) { format!("{stem}@8") } else { stem.to_owned() }
    };
    names().iter().map(|form| metric(&name(form)).unwrap()).collect()
}

/// Three classes; the logit of each is the mean square of a colour channel.
fn classifier() -> ClosureBackbone {
    ClosureBackbone::new("colours", SIDE, 3, channel_logits)
}

fn channel_logits(images: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = images.dims();
    let squares = images.clone() * images;
    squares.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels]) * 20.0
}

/// Some image whose channels differ, with values in 0..1.
fn image() -> Tensor<4> {
    let value = |i: usize| {
        let (channel, row, column) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        let on_object = (4..12).contains(&row) && (5..11).contains(&column);
        let texture = (i.wrapping_mul(2_654_435_761) >> 9 & 63) as f32 / 640.0;
        let base = if on_object { [0.9, 0.3, 0.2] } else { [0.2, 0.4, 0.3] };
        base[channel] - texture
    };
    let values: Vec<f32> = (0..3 * SIDE * SIDE).map(value).collect();
    Tensor::from_data(TensorData::new(values, [1, 3, SIDE, SIDE]), &Device::default())
}

fn map(values: &[f32]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, MAP_SIDE, MAP_SIDE]), &Device::default())
}

fn ground_truth() -> GroundTruth {
    let inside = |i: usize| (4..12).contains(&(i / SIDE)) && (5..11).contains(&(i % SIDE));
    let mask = (0..SIDE * SIDE).map(inside).collect();
    GroundTruth { fixations: vec![[6, 7], [9, 8], [2, 14]], ..GroundTruth::from_mask(mask, SIDE) }
}

/// The map of class c is channel c, inverted for a random classifier.
#[derive(Debug)]
struct ChannelExplainer;

impl ExplainFn for ChannelExplainer {
    fn explain(&self, images: Tensor<4>, classes: &[usize], model: ModelState) -> Result<Tensor<4>, MetricError> {
        let map = |(image, class): (usize, &usize)| images.clone().narrow(0, image, 1).narrow(1, *class, 1);
        let maps = Tensor::cat(classes.iter().enumerate().map(map).collect(), 0).clamp(0.0, 1.0);
        Ok(if model == ModelState::Trained { maps } else { maps.neg().add_scalar(1.0) })
    }

    fn stages(&self) -> usize {
        4
    }
}

/// Values of every metric for maps of [`image`], metric by metric.
fn measure(classifier: &ClosureBackbone, maps: &[Tensor<4>]) -> Vec<Vec<Option<f64>>> {
    let batch = ImageBatch::from_images(classifier, image()).unwrap().with_ground_truth(vec![ground_truth()]).unwrap();
    let maps_of_image = vec![0; maps.len()];
    let attributions = MetricInput::for_images(&batch, Tensor::cat(maps.to_vec(), 0), maps_of_image).unwrap();
    let attributions = attributions.with_explainer(&ChannelExplainer);
    metrics().iter().map(|metric| metric.measure(&attributions).unwrap()).collect()
}

fn assert_in_range(values: &[Vec<Option<f64>>]) {
    for (metric, values) in metrics().iter().zip(values) {
        let spec = metric.spec();
        for value in values.iter().flatten() {
            let [low, high] = spec.range.map(|end| if end.is_finite() { end } else { end.signum() * f64::MAX });
            assert!((low - 1e-6..=high + 1e-6).contains(value), "{}: {value} outside {:?}", spec.name, spec.range);
        }
    }
}

fn wavy() -> Vec<f32> {
    (0..MAP_SIDE * MAP_SIDE).map(|i| (i as f32 * 1.7).sin() / 2.0 + 0.5).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_lie_in_the_range_of_the_spec(values in prop::collection::vec(0.0_f32..=1.0, MAP_SIDE * MAP_SIDE)) {
        assert_in_range(&measure(&classifier(), &[map(&values)]));
    }
}

#[test]
fn every_metric_is_defined_for_an_ordinary_map() {
    for (metric, values) in metrics().iter().zip(measure(&classifier(), &[map(&wavy())])) {
        assert!(values[0].is_some(), "{}", metric.spec().name);
    }
}

#[test]
fn a_constant_map_has_values_in_range_or_none() {
    for value in [0.0, 0.3, 1.0] {
        let values = measure(&classifier(), &[map(&[value; MAP_SIDE * MAP_SIDE])]);
        assert_in_range(&values);
        let of = |name: &str| values[metrics().iter().position(|metric| metric.spec().name == name).unwrap()][0];
        assert_eq!((of("nss"), of("sanity-spearman")), (None, None), "without a ranking");
        let (sparsity, complexity) = (of("sparsity"), of("complexity"));
        assert_eq!((sparsity.is_none(), complexity.is_none()), (value == 0.0, value == 0.0), "without mass");
        assert!(sparsity.is_none_or(|found| found.abs() < 1e-6), "{sparsity:?}");
        assert!(complexity.is_none_or(|found| (found - ((SIDE * SIDE) as f64).ln()).abs() < 1e-6), "{complexity:?}");
    }
}

#[test]
fn a_map_that_is_not_finite_has_no_value_and_leaves_the_others_alone() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = wavy();
        broken[7] = poison;
        let found = measure(&classifier(), &[map(&wavy()), map(&broken), map(&wavy())]);
        let alone = measure(&classifier(), &[map(&wavy())]);
        for ((metric, found), alone) in metrics().iter().zip(found).zip(alone) {
            assert_eq!(found, [alone[0], None, alone[0]], "{}", metric.spec().name);
        }
    }
}

/// The failure that counted as perfect: `max` and `min` drop NaN, and NaN is no predicted class.
#[test]
fn scores_that_are_not_finite_are_undefined_and_not_the_best_value() {
    let clean = image();
    let nan_when_perturbed = ClosureBackbone::new("fragile", SIDE, 3, move |images| {
        let [batch, ..] = images.dims();
        let change = (images.clone() - clean.clone()).abs().max_dim(3).max_dim(2).max_dim(1).reshape([batch, 1]);
        channel_logits(images).mask_fill(change.greater_elem(0.0).expand([batch, 3]), f32::NAN)
    });
    let nan = ClosureBackbone::new("broken", SIDE, 3, |images| channel_logits(images) * f32::NAN);
    let mut peak = [0.0; MAP_SIDE * MAP_SIDE];
    peak[6] = 1.0; // so that the crop of its salient region is not the whole image
    for classifier in [nan_when_perturbed, nan] {
        for (metric, values) in metrics().iter().zip(measure(&classifier, &[map(&peak)])) {
            let spec = metric.spec();
            if spec.family == Family::Faithfulness {
                assert_eq!(values, [None], "{}", spec.name);
            } else if spec.passes == 0 {
                assert!(values[0].is_some(), "{} needs no score", spec.name);
            }
        }
    }
}
