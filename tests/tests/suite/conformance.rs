//! What every backbone has to do, whatever its architecture: the contract of [`Backbone`].

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use explainer_tests::{assert_close, compute, formula, tap_values, values};
use explainer_zoo::backbone::{Backbone, Frozen, Tap, TapId, TapSpec, architecture, names};
use explainer_zoo::device::{Compute, Precision};
use explainer_zoo::explainer::Upsampling;
use explainer_zoo::weights::WeightReader;

/// More than a worker takes at a time, so that two workers share the batch.
const IMAGES: usize = 3;
/// Between a forward pass with and without a graph, relative to the largest logit.
const GRAPH: f32 = 1e-5;

fn backbone(name: &str, threads: usize) -> Frozen {
    generated(name, &Compute { threads, ..compute() })
}

fn generated(name: &str, compute: &Compute) -> Frozen {
    let generate = |name: &str, shape: &[usize]| formula(name, shape, 1);
    let reader = WeightReader::generated(Box::new(generate), &compute.device);
    Frozen::new(architecture(name).expect("a known architecture"), reader, None, compute)
        .expect("a backbone of generated weights")
}

fn images(side: usize) -> Tensor<4> {
    let shape = [IMAGES, 3, side, side];
    // A vector's values lie in -0.1..0.1.
    let pixels: Vec<f32> = formula("images", &[shape.iter().product()], 1).into_iter().map(|u| 10.0 * u).collect();
    Tensor::from_data(TensorData::new(pixels, shape), &compute().device)
}

fn shape(tap: &Tap) -> Vec<usize> {
    match tap {
        Tap::Map(map) => map.dims().to_vec(),
        Tap::Tokens(tokens) => tokens.dims().to_vec(),
    }
}

fn all_taps(backbone: &Frozen) -> Vec<TapId> {
    let names: Vec<String> = backbone.spec().taps.iter().map(|tap| tap.name.clone()).collect();
    backbone.taps(&names).expect("the backbone's own taps")
}

/// The cotangent of the sum of all logits.
fn sum(logits: Tensor<2>, _: Range<usize>) -> Tensor<2> {
    logits.ones_like()
}

fn assert_gradient(what: &str, gradient: Tap, expected: &[usize]) -> Vec<f32> {
    assert_eq!(shape(&gradient), expected, "{what}: shape of the gradient");
    let gradient = tap_values(gradient);
    assert!(gradient.iter().all(|g| g.is_finite()), "{what}: the gradient is not finite");
    assert!(gradient.iter().any(|g| *g != 0.0), "{what}: the gradient is zero");
    gradient
}

/// Checks the contract with `threads` workers; all numbers that came out.
fn check(name: &str, threads: usize) -> Vec<Vec<f32>> {
    let backbone = backbone(name, threads);
    let spec = backbone.spec();
    let side = spec.preprocessing.crop;
    let images = images(side);
    let first = images.clone().narrow(0, 0, 1);

    // Taps are what the specification says, and all of them are shown.
    let ids = all_taps(&backbone);
    let observed = backbone.forward(images.clone(), &ids);
    assert_eq!(observed.logits.dims(), [IMAGES, spec.classes]);
    assert_eq!(observed.taps.len(), spec.taps.len(), "{name}: taps that were shown");
    for (tap, expected) in observed.taps.iter().zip(&spec.taps) {
        let grid = expected.grid(side);
        let dims = match expected.prefix_tokens {
            None => vec![IMAGES, expected.channels, grid, grid],
            Some(prefix) => vec![IMAGES, prefix + grid * grid, expected.channels],
        };
        assert_eq!(matches!(tap, Tap::Tokens(_)), expected.prefix_tokens.is_some(), "{name} {}: kind", expected.name);
        assert_eq!(shape(tap), dims, "{name} {}", expected.name);
    }
    let defaults = backbone.taps(&spec.default_taps).expect("the default taps");
    assert!(!defaults.is_empty(), "{name} has no default taps");
    assert!(backbone.taps(&["absent".to_owned()]).is_err());
    // As an auxiliary its taps can be doubled to one side.
    let lent = backbone.taps(&spec.auxiliary_taps).expect("the taps of an auxiliary");
    let lent: Vec<TapSpec> = lent.iter().map(|tap| backbone.tap(*tap).clone()).collect();
    Upsampling::Doubling.check(&lent, side).expect("taps at one scale");
    let logits = values(observed.logits);
    assert!(logits.iter().all(|l| l.is_finite()), "{name}: logits are not finite");

    // Images keep their places: the last one alone is the batch's last row.
    let last = backbone.forward(images.clone().narrow(0, IMAGES - 1, 1), &[]).logits;
    let row = &logits[(IMAGES - 1) * spec.classes..];
    assert_close(&format!("{name}: the last image alone"), &values(last), row, GRAPH);

    // The gradient reaches the images, and asking for it leaves no trace.
    let answer = backbone.vjp(images.clone(), &sum);
    assert_close(&format!("{name}: logits of the answer"), &values(answer.logits), &logits, GRAPH);
    let gradient = assert_gradient(name, answer.gradient, &[IMAGES, 3, side, side]);
    let again = backbone.forward(images.clone(), &ids);
    assert!(values(again.logits) == logits, "{name}: other logits after an answer");
    let mut numbers: Vec<Vec<f32>> = observed.taps.into_iter().map(tap_values).collect();
    for ((again, tap), spec) in again.taps.into_iter().zip(&numbers).zip(&spec.taps) {
        assert!(tap_values(again) == *tap, "{name} {}: another feature map after an answer", spec.name);
    }

    // A tap replaced by itself changes nothing.
    for (tap, spec) in defaults.iter().zip(&spec.default_taps) {
        let what = format!("{name} at {spec}");
        let own = backbone.forward(first.clone(), &[*tap]);
        let [feature] = &own.taps[..] else { panic!("{what}: {} taps instead of one", own.taps.len()) };
        let answer = backbone.vjp_at(first.clone(), *tap, feature.clone(), &sum);
        assert_close(&what, &values(answer.logits), &values(own.logits), GRAPH);
        assert_gradient(&what, answer.gradient, &shape(feature));
    }

    // Several features of an image share the network before their tap.
    if let (Some(tap), Some(spec)) = (defaults.last(), spec.default_taps.last()) {
        let what = format!("{name} at {spec}, two features an image");
        let pair = images.narrow(0, 0, 2);
        let own = backbone.forward(pair.clone(), &[*tap]).taps.remove(0);
        let halved = |tap: Tap| match tap {
            Tap::Map(map) => Tap::Map(map * 0.5),
            Tap::Tokens(tokens) => Tap::Tokens(tokens * 0.5),
        };
        let rows = [0, 0, 1, 1].map(|image| own.rows(image, 1)).into_iter().zip([false, true, false, true]);
        let features = Tap::stack(rows.map(|(row, half)| if half { halved(row) } else { row }).collect());
        let features = features.expect("taps of one kind");
        let each = Tensor::cat([0, 0, 1, 1].map(|image| pair.clone().narrow(0, image, 1)).to_vec(), 0);
        let expected = backbone.vjp_at(each, *tap, features.clone(), &sum);
        let found = backbone.vjp_at(pair, *tap, features.clone(), &sum);
        assert_close(&what, &values(found.logits), &values(expected.logits), GRAPH);
        let shared = assert_gradient(&what, found.gradient, &shape(&features));
        assert_close(&what, &shared, &tap_values(expected.gradient), 1e-3);
        numbers.push(shared);
    }
    numbers.extend([logits, gradient]);
    numbers
}

fn conforms(name: &str) {
    let (one, two) = (check(name, 1), check(name, 2));
    assert!(one == two, "{name}: one thread and two do not give the same bits");
}

/// Largest difference between bf16 and f32, relative to the largest value: 8 bits through dozens of layers.
const REDUCED: f32 = 0.05;
/// The same of gradients, as a length relative to the length of f32's: rectifiers near zero open and close.
const REDUCED_GRADIENT: f32 = 0.25;

/// A network in bf16 shows what it shows in f32, in f32, whoever asks.
fn reduces(name: &str) {
    let full = backbone(name, 1);
    let compute = Compute { threads: 1, precision: Precision::Bf16, ..compute() };
    let reduced = generated(name, &compute);
    let first = images(full.spec().preprocessing.crop).narrow(0, 0, 1);
    let defaults = full.taps(&full.spec().default_taps).expect("the default taps");

    let [expected, found] = [&full, &reduced].map(|backbone| backbone.forward(first.clone(), &defaults));
    assert_ne!(values(found.logits.clone()), values(expected.logits.clone()), "{name}: bf16 makes no difference");
    assert_close(&format!("{name}: logits"), &values(found.logits), &values(expected.logits), REDUCED);
    for ((found, expected), spec) in found.taps.iter().zip(&expected.taps).zip(&full.spec().default_taps) {
        let [found, expected] = [found, expected].map(|tap| tap_values(tap.clone()));
        assert_close(&format!("{name} {spec}"), &found, &expected, REDUCED);
    }

    let [expected, found] = [&full, &reduced].map(|backbone| tap_values(backbone.vjp(first.clone(), &sum).gradient));
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    let off = length(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    let whole = length(&mut expected.iter().copied());
    assert!(off <= REDUCED_GRADIENT * whole, "{name}: gradient off by {} of its length", off / whole);

    for (tap, feature) in defaults.iter().zip(reduced.forward(first.clone(), &defaults).taps) {
        let answer = reduced.vjp_at(first.clone(), *tap, feature.clone(), &sum);
        assert_gradient(name, answer.gradient, &shape(&feature));
    }
    if let Some(attended) = reduced.attention(first, Some(&sum)) {
        assert!(attended.iter().all(|block| values(block.weights.clone()).iter().all(|w| w.is_finite())));
    }
}

/// `flex` computes bf16 one number at a time: the smallest networks of either kind there, all on another device.
#[test]
fn bf16_is_near_f32() {
    let all = names();
    let small = ["shapes_resnet", "tf_efficientnet_lite0", "vit_small_patch14_dinov2"];
    let chosen = if compute().is_cpu() { &small[..] } else { &all[..] };
    chosen.iter().for_each(|name| reduces(name));
}

/// One test an architecture, so that they run beside each other.
macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                conforms(stringify!($name));
            }
        )+

        #[test]
        fn every_architecture_is_tested() {
            let mut tested = [$(stringify!($name)),+];
            let mut known = names();
            tested.sort_unstable();
            known.sort_unstable();
            assert_eq!(tested[..], known[..]);
        }
    };
}

conformance!(
    vgg16,
    resnet18,
    resnet50,
    vit_b_16,
    vit_small_patch14_dinov2,
    tf_efficientnet_lite0,
    mobilenet_v3_small,
    mnasnet0_5,
    shapes_resnet,
);
