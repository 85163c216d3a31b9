//! Methods on classifiers whose maps are known, and properties of all methods.

use std::ops::Range;

use burn::tensor::{Device, Tensor, activation::relu};

use super::tensors::{class_scores, from_values, normal, values};
use super::*;
use explainer_zoo::backbone::{
    Architecture, Backbone, BackboneOutput, BackboneSpec, ClosureBackbone, Cotangent, Passes, Tap, TapId, TapSpec, Vjp,
    architecture, imagenet,
};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::maps::min_max;

const SIDE: usize = 16;
const CLASSES: usize = 3;

/// A linear classifier of pixels. Its only tap is the image itself.
#[derive(Debug)]
struct Linear {
    spec: BackboneSpec,
    /// `[3 side^2, K]`
    weights: Tensor<2>,
}

impl Linear {
    /// With weights of N(0, 1).
    fn random() -> Self {
        Self::new(normal([3 * SIDE * SIDE, CLASSES], 1, "weights", 0, &Device::default()))
    }

    /// The logit of class 0 is the amount of chessboard within these rows and columns; the others are zero.
    fn window(rows: Range<usize>, columns: Range<usize>) -> Self {
        let within = |i: usize| rows.contains(&(i / SIDE % SIDE)) && columns.contains(&(i % SIDE));
        let share = 5.0 / (3 * rows.len() * columns.len()) as f32;
        let weight = |i: usize| if within(i) { share * chessboard(i) } else { 0.0 };
        let weights = (0..3 * SIDE * SIDE).flat_map(|i| [weight(i), 0.0, 0.0]).collect();
        Self::new(from_values(weights, [3 * SIDE * SIDE, CLASSES], &Device::default()))
    }

    fn new(weights: Tensor<2>) -> Self {
        let spec = BackboneSpec {
            name: "linear".into(),
            preprocessing: Preprocessing { resize: SIDE, crop: SIDE, mean: [0.5; 3], std: [0.5; 3], ..imagenet() },
            classes: CLASSES,
            taps: vec![TapSpec::map("pixels", 3, 1)],
            default_taps: vec!["pixels".into()],
            auxiliary_taps: Vec::new(),
            weights_sha256: None,
        };
        Self { spec, weights }
    }

    /// The gradient of the class's logit, `[1,3,side,side]`.
    fn gradient(&self, class: usize) -> Tensor<4> {
        self.weights.clone().narrow(1, class, 1).transpose().reshape([1, 3, SIDE, SIDE])
    }
}

impl Backbone for Linear {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        let [batch, ..] = images.dims();
        let logits = images.clone().reshape([batch, 3 * SIDE * SIDE]).matmul(self.weights.clone());
        BackboneOutput { logits, taps: taps.iter().map(|_| Tap::Map(images.clone())).collect() }
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let dims = images.dims();
        let logits = self.forward(images, &[]).logits;
        let gradient = cotangent(logits.clone(), 0..dims[0]).matmul(self.weights.clone().transpose()).reshape(dims);
        Vjp { logits, gradient: Tap::Map(gradient) }
    }

    fn vjp_at(&self, _: Tensor<4>, _: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        let Tap::Map(feature) = feature else { panic!("its tap is a map") };
        self.vjp(feature, cotangent)
    }
}

/// A classifier whose taps can be read but not replaced.
#[derive(Debug)]
struct ReadOnlyTaps(Linear);

impl Backbone for ReadOnlyTaps {
    fn spec(&self) -> &BackboneSpec {
        self.0.spec()
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        self.0.forward(images, taps)
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        self.0.vjp(images, cotangent)
    }

    fn vjp_at(&self, _: Tensor<4>, _: TapId, _: Tap, _: Cotangent<'_>) -> Vjp {
        panic!("a method that replaces taps must be refused")
    }

    fn can_replace_taps(&self) -> bool {
        false
    }
}

/// A chessboard of 1 and -1, which a blur removes.
fn chessboard(i: usize) -> f32 {
    if (i / SIDE + i % SIDE).is_multiple_of(2) { 1.0 } else { -1.0 }
}

fn images(count: usize) -> Tensor<4> {
    normal([count, 3, SIDE, SIDE], 2, "images", 0, &Device::default())
}

/// Asserts equality within 1e-4 of the map and the min-max normalised `expected`.
fn assert_map(what: &str, found: Tensor<4>, expected: Tensor<4>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (i, (f, e)) in values(found).iter().zip(values(min_max(expected))).enumerate() {
        assert!((f - e).abs() < 1e-4, "{what}: {f} instead of {e} at {i}");
    }
}

fn method(name: &str, backbone: &dyn Backbone) -> Box<dyn AttributionMethod> {
    let context = MethodContext { batch_size: 5, seed: 3, ..MethodContext::new(backbone) };
    name.parse::<MethodSpec>().unwrap().build(&context).unwrap()
}

/// Why a method cannot be built.
fn refusal(name: &str, context: &MethodContext<'_>) -> String {
    name.parse::<MethodSpec>().unwrap().build(context).unwrap_err().to_string()
}

fn maps(name: &str, backbone: &dyn Backbone, images: &Tensor<4>, classes: &[usize]) -> Tensor<4> {
    method(name, backbone).explain(backbone, images, classes).unwrap().maps
}

#[test]
fn only_methods_that_replace_taps_need_them_replaceable() {
    let (backbone, images) = (ReadOnlyTaps(Linear::random()), images(1));
    for name in ["score-cam", "sidu", "opti-cam@2", "rise@4", "integrated-gradients@2", "smooth-grad@2"] {
        assert_eq!(maps(name, &backbone, &images, &[0]).dims()[..2], [1, 1], "{name}");
    }
    for name in ["grad-cam", "grad-cam++", "layer-cam", "ablation-cam", "abs-cam", "fd-cam", "iia@2"] {
        let refused = refusal(name, &MethodContext::new(&backbone));
        assert!(refused.contains("replaces the feature maps of a layer"), "{name}: {refused}");
    }
}

#[test]
fn a_linear_classifier_is_explained_by_its_weights() {
    let (backbone, images) = (Linear::random(), images(2));
    let classes = [2, 0];
    let gradients = Tensor::cat(vec![backbone.gradient(2), backbone.gradient(0)], 0);
    let contribution = images.clone() * gradients.clone();
    let over = |x: Tensor<4>| x.mean_dim(3).mean_dim(2);
    let weighted = |weights: Tensor<4>| relu((images.clone() * weights).sum_dim(1));

    assert_map("grad-cam", maps("grad-cam", &backbone, &images, &classes), weighted(over(gradients.clone())));
    let layer_cam = relu((relu(gradients.clone()) * images.clone()).sum_dim(1));
    assert_map("layer-cam", maps("layer-cam", &backbone, &images, &classes), layer_cam);
    // Ablating a channel removes its contribution to the logit.
    let whole = contribution.clone().sum_dim(3).sum_dim(2).sum_dim(1);
    let ablation = over(contribution.clone()) * (SIDE * SIDE) as f32 / whole;
    assert_map("ablation-cam", maps("ablation-cam", &backbone, &images, &classes), weighted(ablation));
    let positive = relu(gradients.clone());
    let sum = relu(over(images.clone())) * (SIDE * SIDE) as f32;
    let plus = over(positive.clone() / (positive * sum + 2.0));
    assert_map("grad-cam++", maps("grad-cam++", &backbone, &images, &classes), weighted(plus));
    // The gradient is constant, with noise or without.
    assert_map("smooth-grad", maps("smooth-grad@7", &backbone, &images, &classes), gradients.clone().abs().sum_dim(1));
    // Black is -1: the path from there is x + 1.
    let path = ((images.clone() + 1.0) * gradients.clone()).sum_dim(1);
    assert_map("integrated-gradients", maps("integrated-gradients@3", &backbone, &images, &classes), path);
}

/// With masks of one pixel each, RISE is the probability that each pixel alone gives.
#[test]
fn rise_with_a_mask_a_pixel_is_the_probability_of_each() {
    let (backbone, images) = (Linear::random(), images(1) * 0.1);
    let pixels = SIDE * SIDE;
    let masks = Tensor::<2>::eye(pixels, &Device::default()).reshape([pixels, 1, SIDE, SIDE]);
    let rise = Rise { masks: Masks::Fixed(masks.clone()), batch_size: 100 };
    let found = rise.explain(&backbone, &images, &[1]).unwrap();
    assert_eq!(found.passes, Passes { forward: pixels as u64, backward: 0 });
    let logits = backbone.forward(images.clone() * masks, &[]).logits;
    let expected = class_scores(burn::tensor::activation::softmax(logits, 1), 1).reshape([1, 1, SIDE, SIDE]);
    assert_map("rise", found.maps, expected);
    let small = Rise { masks: Masks::Fixed(Tensor::zeros([2, 1, 4, SIDE], &Device::default())), batch_size: 9 };
    let error = small.explain(&backbone, &images, &[1]).unwrap_err().to_string();
    assert_eq!(error, "the masks are [2, 1, 4, 16], expected [N, 1, 16, 16] with N at least 1");
}

#[test]
fn opti_cam_finds_the_channel_of_the_class() {
    let device = Device::default();
    // The logit grows with the first channel and falls with the others.
    let weights = (0..3 * SIDE * SIDE).flat_map(|i| [if i < SIDE * SIDE { 1.0 } else { -1.0 }, 0.0, 0.0]).collect();
    let backbone = Linear::new(from_values(weights, [3 * SIDE * SIDE, CLASSES], &device));
    let ramp = |f: fn(usize) -> usize| {
        from_values((0..SIDE * SIDE).map(|i| f(i) as f32 / 15.0).collect(), [1, 1, SIDE, SIDE], &device)
    };
    let (across, down) = (ramp(|i| i % SIDE), ramp(|i| i / SIDE));
    let image = Tensor::cat(vec![across.clone(), down.clone(), down], 1);
    let found = values(maps("opti-cam@100", &backbone, &image, &[0]));
    assert!(found.iter().zip(values(across)).all(|(f, e)| (f - e).abs() < 0.05), "{found:?}");
}

/// The share of a map that is within rows and columns.
fn share(map: Tensor<4>, rows: Range<usize>, columns: Range<usize>) -> f32 {
    let map = values(map);
    let within = |i: &usize| rows.contains(&(i / SIDE)) && columns.contains(&(i % SIDE));
    let inside: f32 = (0..map.len()).filter(within).map(|i| map[i]).sum();
    inside / map.iter().sum::<f32>().max(1e-8)
}

#[test]
fn perturbations_find_where_the_class_is() {
    let backbone = Linear::window(2..8, 8..14);
    let image = (0..3 * SIDE * SIDE).map(chessboard).collect();
    let image = from_values(image, [1, 3, SIDE, SIDE], &Device::default());
    // The quarter where the class is has 0.32 of the image. Of extremal perturbation's five masks the largest show half of
    // the image: 0.345 to 0.351 of its map is inside, by processor, and 1.52 times what is in the opposite quarter.
    for (name, ratio, least) in
        [("meaningful-perturbation@100", 3.0, 0.4), ("extremal-perturbation@2000", 1.35, 0.33), ("rise@600", 1.5, 0.4)]
    {
        let found = maps(name, &backbone, &image, &[0]);
        let inside = share(found.clone(), 0..9, 7..16);
        let outside = share(found, 7..16, 0..9);
        assert!(inside > ratio * outside && inside > least, "{name}: {inside} inside, {outside} opposite");
    }
}

#[test]
fn trivial_maps_ignore_the_classifier() {
    let backbone = Linear::random();
    let device = Device::default();
    let found = |name: &str, images: &Tensor<4>| method(name, &backbone).explain(&backbone, images, &[0]).unwrap();
    for name in ["random", "centre-gaussian", "edges", "uniform"] {
        assert_eq!(found(name, &images(1)).passes, Passes::default(), "{name}");
    }
    let gaussian = values(found("centre-gaussian", &images(1)).maps);
    assert!(gaussian[7 * SIDE + 7] > 0.98 && gaussian[0] < 0.05 && gaussian[0] == gaussian[SIDE * SIDE - 1]);
    assert!(values(found("uniform", &images(1)).maps).iter().all(|v| *v == 1.0));
    // A step between columns 9 and 10: edges are there and nowhere else.
    let step = (0..3 * SIDE * SIDE).map(|i| if i % SIDE < 10 { 0.0 } else { 1.0 }).collect();
    let edges = values(found("edges", &from_values(step, [1, 3, SIDE, SIDE], &device)).maps);
    for (i, value) in edges.iter().enumerate() {
        let expected = if (9..11).contains(&(i % SIDE)) { 1.0 } else { 0.0 };
        assert!((value - expected).abs() < 1e-5, "{value} at {i}");
    }
    let random = values(found("random", &images(1)).maps);
    let mean = random.iter().sum::<f32>() / random.len() as f32;
    assert!((mean - 0.5).abs() < 0.06 && random != values(found("random", &(images(1) * 2.0)).maps));
}

/// The documented passes of each method, at small numbers, on a layer of three channels.
#[test]
fn passes_are_those_of_the_documentation() {
    let backbone = Linear::random();
    for (name, forward, backward) in [
        ("grad-cam", 2, 1),
        ("grad-cam++", 2, 1),
        ("layer-cam", 2, 1),
        ("score-cam", 1 + 3, 0),
        ("ablation-cam", 1 + 3, 0),
        ("abs-cam", 3, 1),
        ("fd-cam", 2 + 6, 1),
        ("rise@11", 11, 0),
        ("sidu", 1 + 3, 0),
        ("integrated-gradients@7", 7, 7),
        ("smooth-grad@7", 7, 7),
        ("iia@3", 3 + 9, 9),
        ("opti-cam@4", 1 + 4, 4),
        ("meaningful-perturbation@4", 12 + 4, 4),
        ("extremal-perturbation@4", 20, 20),
    ] {
        let images = images(3);
        let found = method(name, &backbone).explain(&backbone, &images, &[0, 1, 2]).unwrap();
        assert_eq!(found.passes, Passes { forward: 3 * forward, backward: 3 * backward }, "{name}");
    }
}

#[test]
fn transformer_methods_are_refused_elsewhere() {
    let backbone = Linear::random();
    for name in ["rollout", "transformer-attribution", "vit-cx", "daam"] {
        let error = refusal(name, &MethodContext::new(&backbone));
        let expected =
            format!("{name} needs the tokens or the attention of a vision transformer, which backbone linear");
        assert!(error.starts_with(&expected), "{error}");
    }
    let error = refusal("grad-cam", &MethodContext { layer: Some("layer9"), ..MethodContext::new(&backbone) });
    assert_eq!(error, "backbone linear has no tap \"layer9\"; it has pixels");
    let bare = Linear { spec: BackboneSpec { taps: Vec::new(), ..Linear::random().spec }, ..Linear::random() };
    let error = refusal("sidu", &MethodContext::new(&bare));
    assert!(error.contains("sidu reads the feature maps of a layer, but backbone linear has no taps"), "{error}");
}

#[test]
fn names_and_parameters_are_checked() {
    for form in names() {
        let name = form.split('[').next().unwrap();
        let spec: MethodSpec = name.parse().unwrap();
        assert_eq!(spec.to_string(), name);
        assert!(!spec.title().is_empty());
    }
    let problem = |text: &str| text.parse::<MethodSpec>().unwrap_err().to_string();
    assert!(
        problem("gradcam")
            .starts_with("unknown attribution method `gradcam`; known are grad-cam, grad-cam++, layer-cam")
    );
    assert!(problem("rise@many").ends_with("found `many` behind the @, expected a whole number, 1 to 1000000"));
    assert!(problem("edges@2").ends_with("found `2` behind the @, expected nothing: it has no parameter"));
    assert_eq!("rise@8000".parse::<MethodSpec>().unwrap().to_string(), "rise");
}

#[test]
fn classes_that_are_not_there_are_refused() {
    let backbone = Linear::random();
    let problem = |classes: &[usize]| {
        method("grad-cam", &backbone).explain(&backbone, &images(2), classes).unwrap_err().to_string()
    };
    assert_eq!(problem(&[0]), "found 1 target classes, expected 2: one for each image");
    assert_eq!(problem(&[0, 3]), "there is no class 3: the classifier has 3, 0 to 2");
}

/// The patches of a transformer's last tap do not reach the class token: the layer is before the last attention.
#[test]
fn the_default_layer_is_one_that_the_logits_depend_on() {
    for (name, expected) in [("vit_small_patch14_dinov2", "blocks.11.norm1"), ("shapes_resnet", "layer3")] {
        let Architecture { taps, .. } = architecture(name).unwrap();
        let backbone = ClosureBackbone::with_taps(name, 224, 1, taps, |images, _| images.mean_dim(3).reshape([-1, 1]));
        assert_eq!(Layer::default_tap(&backbone).map(|tap| tap.name.as_str()), Some(expected));
    }
}

#[test]
fn the_readme_has_the_table_of_the_registry() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table()), "put this into attribution/README.md:\n{}", table());
}
