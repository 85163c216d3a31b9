//! Path integrals on a backbone whose gradients are known, and on real ones.

use super::*;
use crate::backbone::{BackboneOutput, BackboneSpec, Cotangent, TapSpec, Vjp, imagenet, load};
use crate::device::Compute;
use crate::weights::random;

/// Two classes: the first's logit is the sum of x^2 / 2, the second's that of -x.
#[derive(Debug)]
struct Square(BackboneSpec);

impl Square {
    fn new() -> Self {
        Self(BackboneSpec {
            name: "square".into(),
            preprocessing: imagenet(),
            classes: 2,
            taps: Vec::new(),
            default_taps: Vec::new(),
            auxiliary_taps: Vec::new(),
            weights_sha256: None,
        })
    }
}

impl Backbone for Square {
    fn spec(&self) -> &BackboneSpec {
        &self.0
    }

    fn forward(&self, images: Tensor<4>, _: &[TapId]) -> BackboneOutput {
        let sum = |x: Tensor<4>| {
            let [batch, channels, height, width] = x.dims();
            x.reshape([batch, channels * height * width]).sum_dim(1)
        };
        let logits = Tensor::cat(vec![sum(images.clone() * images.clone() * 0.5), -sum(images)], 1);
        BackboneOutput { logits, taps: Vec::new() }
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let logits = self.forward(images.clone(), &[]).logits;
        let rows = images.dims()[0];
        let seed = cotangent(logits.clone(), 0..rows);
        let of = |class| seed.clone().narrow(1, class, 1).reshape([rows, 1, 1, 1]);
        Vjp { logits, gradient: Tap::Map(images * of(0) - of(1)) }
    }

    fn vjp_at(&self, images: Tensor<4>, _: TapId, _: Tap, cotangent: Cotangent<'_>) -> Vjp {
        self.vjp(images, cotangent)
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

/// Values in -1..1.
fn noise(name: &str, shape: [usize; 4]) -> Tensor<4> {
    let values = random::uniform(1, name, shape.iter().product()).into_iter().map(|u| 2.0 * u - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

fn classes(values: &[usize]) -> Tensor<1, Int> {
    indices(values, &Device::default())
}

fn integral(steps: usize, rectify: bool, points_per_call: usize) -> PathIntegral {
    PathIntegral { steps, rectify, points_per_call }
}

#[test]
fn blocks_cover_every_point_once_and_keep_to_the_limit() {
    for (images, each, steps, limit) in
        [(3, 2, 4, 32), (3, 2, 4, 8), (2, 5, 4, 8), (1, 100, 4, 32), (2, 3, 7, 3), (1, 1, 1, 1)]
    {
        let mut seen = Vec::new();
        for block in blocks(images, each, steps, limit) {
            assert!(block.paths.len() * block.steps.len() <= limit, "{block:?}");
            assert!(block.images.len() == 1 || block.paths == (block.images.start * each..block.images.end * each));
            assert!(block.paths.clone().all(|path| block.images.contains(&(path / each))), "{block:?}");
            assert!(block.steps == (0..steps) || block.paths.len() == 1, "{block:?}");
            seen.extend(block.paths.flat_map(|path| block.steps.clone().map(move |step| (path, step))));
        }
        let expected: Vec<_> = (0..images * each).flat_map(|path| (0..steps).map(move |step| (path, step))).collect();
        assert_eq!(seen, expected);
    }
    assert!(blocks(3, 0, 4, 32).is_empty() && blocks(0, 2, 4, 32).is_empty());
}

#[test]
fn every_increment_is_counted_at_the_end_of_its_step() {
    // Along the path dF/dv = v: the sum over k of (b + k/n d) d/n is b d + d^2 (n + 1) / 2n, at each position.
    let (steps, backbone) = (4, Square::new());
    let (images, baselines) = (noise("h", [2, 3, 2, 2]), noise("b", [6, 3, 2, 2]));
    let end = Representation { map: images.clone(), tap: None };
    let (h, b) = (values(images.clone()), values(baselines.clone()));
    for rectify in [false, true] {
        let maps = integral(steps, rectify, 8).maps(
            &backbone,
            &PathLayer::Image,
            &images,
            &classes(&[0, 0]),
            &end,
            &baselines,
        );
        assert_eq!(maps.dims(), [6, 1, 2, 2]);
        for (i, found) in values(maps).into_iter().enumerate() {
            let (path, cell) = (i / 4, i % 4);
            let expected: f32 = (0..3)
                .map(|channel| {
                    let (h, b) = (h[(path / 3 * 3 + channel) * 4 + cell], b[(path * 3 + channel) * 4 + cell]);
                    let slope = |k: usize| {
                        let v = b + k as f32 / steps as f32 * (h - b);
                        if rectify { v.max(0.0) } else { v }
                    };
                    (1..=steps).map(|k| slope(k) * (h - b) / steps as f32).sum::<f32>()
                })
                .sum();
            assert!((found - expected).abs() < 1e-5, "path {path} cell {cell}: {found} instead of {expected}");
        }
    }
}

#[test]
fn the_class_is_the_images_own_and_the_split_into_calls_changes_nothing() {
    let backbone = Square::new();
    let (images, baselines) = (noise("h", [2, 3, 2, 2]), noise("b", [4, 3, 2, 2]));
    let end = Representation { map: images.clone(), tap: None };
    let maps = |points| {
        values(integral(5, false, points).maps(
            &backbone,
            &PathLayer::Image,
            &images,
            &classes(&[1, 0]),
            &end,
            &baselines,
        ))
    };
    let whole = maps(1000);
    // Class 1 is linear: minus the way from the baseline to the image.
    let way = images.clone().narrow(0, 0, 1).repeat_dim(0, 2) - baselines.clone().narrow(0, 0, 2);
    let expected = values(-way.sum_dim(1));
    assert!(whole.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5));
    for points in [1, 2, 3, 5, 7, 10, 12] {
        let split = maps(points);
        assert!(split.iter().zip(&whole).all(|(f, e)| (f - e).abs() < 1e-5), "{points} points a call");
    }
}

/// With the rectification off attributions sum to F(h) - F(b), on a real network at the image and at a tap.
#[test]
fn the_integral_is_complete() {
    let backbone = load("shapes_resnet", "embedded", None, &Compute::default(), &mut |_, _| {}).unwrap();
    let side = backbone.spec().preprocessing.crop;
    let images = noise("images", [2, 3, side, side]);
    let sites = ["image", "layer2"].map(|site| PathLayer::named(&backbone, site, side).unwrap());
    let (logits, ends) = representations(&backbone, &images, &sites);
    for (site, end) in sites.iter().zip(&ends) {
        let baselines = end.map.zeros_like();
        let at_baseline = match site {
            PathLayer::Image => backbone.forward(baselines.clone(), &[]).logits,
            PathLayer::Tap { id, .. } => {
                backbone.vjp_at(images.clone(), *id, Tap::Map(baselines.clone()), &silent).logits
            }
        };
        let (class, expected) = most_moved(logits.clone() - at_baseline);
        let maps = integral(100, false, 32).maps(&backbone, site, &images, &class, end, &baselines);
        let [batch, _, height, width] = maps.dims();
        let sums = values(maps.reshape([batch, height * width]).sum_dim(1));
        for (sum, expected) in sums.iter().zip(expected) {
            assert!((sum - expected).abs() < 0.05 * expected.abs(), "{site:?}: {sum} instead of {expected}");
        }
    }
}

fn silent(logits: Tensor<2>, _: Range<usize>) -> Tensor<2> {
    logits.zeros_like()
}

/// Each image's class whose logit moves most, and by how much.
fn most_moved(change: Tensor<2>) -> (Tensor<1, Int>, Vec<f32>) {
    let [batch, _] = change.dims();
    let class = change.clone().abs().argmax(1);
    (class.clone().reshape([batch]), values(change.gather(1, class)))
}

#[test]
fn tokens_before_the_patches_stay_the_images_own() {
    let compute = Compute::default();
    let backbone = load("vit_small_patch14_dinov2", "random:3", None, &compute, &mut |_, _| {}).unwrap();
    let side = backbone.spec().preprocessing.crop;
    let images = noise("images", [1, 3, side, side]);
    let site = PathLayer::named(&backbone, "blocks.10", side).unwrap();
    let (logits, ends) = representations(&backbone, &images, std::slice::from_ref(&site));
    let class = logits.clone().argmax(1).reshape([1]);
    // The baseline is the image's own representation: no way, no attribution, with any number of paths.
    let end = &ends[0];
    let own = end.map.clone().repeat_dim(0, 3);
    let maps = integral(2, true, 4).maps(&backbone, &site, &images, &class, end, &own);
    assert_eq!(maps.dims(), [3, 1, 16, 16]);
    assert!(values(maps).iter().all(|v| *v == 0.0));
    // From other patches to the image's own, with its class token all the way.
    let other = noise("patches", end.map.dims()) * 2.0;
    let PathLayer::Tap { id, adapter, .. } = &site else { panic!("a tap") };
    let start = adapter.restore(other.clone(), end.tap.as_ref().unwrap());
    let at_start = backbone.vjp_at(images.clone(), *id, start, &silent).logits;
    let (class, expected) = most_moved(logits - at_start);
    let maps = integral(64, false, 32).maps(&backbone, &site, &images, &class, end, &other);
    let sum = values(maps.sum())[0];
    assert!((sum - expected[0]).abs() < 0.1 * expected[0].abs(), "{sum} instead of {}", expected[0]);
}

#[test]
fn heat_maps_fill_the_image_and_the_unit_interval() {
    let maps = heat_maps(noise("maps", [2, 1, 7, 7]), [32, 24]);
    assert_eq!(maps.dims(), [2, 1, 32, 24]);
    for map in values(maps).chunks(32 * 24) {
        let (low, high) = map.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        assert!(low.abs() < 1e-6 && (high - 1.0).abs() < 1e-6);
    }
    // Cubic convolution with a = -0.75, as PyTorch's: four samples to one at the middle of each pair.
    let row = Tensor::<1>::from_floats([0.0, 0.0, 1.0, 1.0], &Device::default()).reshape([1, 1, 1, 4]);
    let double = values(heat_maps(row, [1, 8]));
    // Before stretching: the weights at distances 0.75, 0.25 and so on.
    let weight = |d: f64| {
        let a = -0.75;
        if d <= 1.0 { ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0 } else { ((d - 5.0) * d + 8.0) * d * a - 4.0 * a }
    };
    let samples = [0.0, 0.0, 1.0, 1.0];
    let raw: Vec<f64> = (0..8)
        .map(|o| {
            let at: f64 = (f64::from(o) + 0.5) / 2.0 - 0.5;
            let base = at.floor() as i64;
            (-1..=2).map(|k| weight((at - (base + k) as f64).abs()) * samples[(base + k).clamp(0, 3) as usize]).sum()
        })
        .collect();
    let (low, high) = raw.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    for (found, raw) in double.iter().zip(&raw) {
        assert!((f64::from(*found) - (raw - low) / (high - low)).abs() < 1e-6);
    }
}

#[test]
fn integrated_gradients_of_a_linear_class_is_the_way_itself() {
    let backbone = Square::new();
    let images = noise("h", [2, 3, 4, 4]);
    let black = black(&imagenet(), 4, &Device::default());
    let maps = integrated_gradients(&backbone, &images, &classes(&[1, 1]), &black, 3);
    let expected = min_max((black.clone().repeat_dim(0, 2) - images).sum_dim(1));
    assert!(values(maps).iter().zip(values(expected)).all(|(f, e)| (f - e).abs() < 1e-5));
    assert!((values(black)[0] + 0.485 / 0.229).abs() < 1e-6);
}

#[test]
fn a_site_that_is_not_there_is_named() {
    let backbone = Square::new();
    let error = PathLayer::named(&backbone, "layer9", 224).unwrap_err().to_string();
    assert!(error.contains("layer9") && error.contains("image"), "{error}");
    let tap = TapSpec::tokens("t", 2, 14, 1);
    let backbone = Square(BackboneSpec { taps: vec![tap], ..Square::new().0 });
    assert!(matches!(PathLayer::named(&backbone, "t", 225), Err(PathLayerError::NotSquare(_))));
    assert_eq!(PathLayer::named(&backbone, "image", 225).unwrap(), PathLayer::Image);
}
