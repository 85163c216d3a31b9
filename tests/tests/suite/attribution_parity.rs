//! Maps of methods without training against published libraries, or PyTorch, on two small networks; and what all methods
//! have in common there.

use std::fs;
use std::path::Path;

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use explainer_attribution::{
    AttributionMethod, FdCam, Iia, IntegratedGradients, Layer, Masks, MethodContext, MethodSpec, Rise, names,
};
use explainer_tests::{assert_within, compute, fixture, int_tensor, values};
use explainer_zoo::backbone::layers::{
    Activation, Attention, Conv2d, ConvSpec, LayerNorm, Linear, gelu, global_average,
};
use explainer_zoo::backbone::{Architecture, Backbone, Frozen, Network, Passes, TapHook, TapSpec, imagenet};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::WeightReader;
use safetensors::SafeTensors;

const SIDE: usize = 16;
/// Of maps in 0..1.
const TOLERANCE: f32 = 2e-4;

/// A convolutional network with one tap in its middle.
#[derive(Debug)]
struct Small {
    convs: [Conv2d; 3],
    head: Linear,
}

impl Network for Small {
    fn forward(&self, images: Tensor<4>, watch: &mut dyn TapHook) -> Tensor<2> {
        let [first, second, third] = &self.convs;
        let x = second.activated(first.activated(images, Activation::Relu), Activation::Relu);
        let x = third.activated(watch.map("layer", x), Activation::Relu);
        self.head.forward(global_average(x))
    }
}

fn small(reader: &mut WeightReader) -> Box<dyn Network> {
    let mut conv =
        |name: &str, input, output, stride| Conv2d::read(reader, name, ConvSpec::new(input, output, 3, stride), true);
    let convs = [conv("conv1", 3, 6, 1), conv("conv2", 6, 8, 2), conv("conv3", 8, 8, 2)];
    Box::new(Small { convs, head: Linear::read(reader, "fc", 8, 5) })
}

const WIDTH: usize = 12;
const PATCH: usize = 4;
const TOKENS: usize = 1 + (SIDE / PATCH) * (SIDE / PATCH);

/// A vision transformer of two blocks.
#[derive(Debug)]
struct Transformer {
    embed: Tensor<4>,
    bias: Tensor<1>,
    token: Tensor<3>,
    positions: Tensor<3>,
    blocks: Vec<Block>,
    head: Linear,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

fn transformer(reader: &mut WeightReader) -> Box<dyn Network> {
    let mut block = |name: &str| Block {
        norm1: LayerNorm::read(reader, &format!("{name}.norm1"), WIDTH, 1e-6),
        attention: Attention {
            qkv: Linear::read(reader, &format!("{name}.qkv"), WIDTH, 3 * WIDTH),
            projection: Linear::read(reader, &format!("{name}.proj"), WIDTH, WIDTH),
            heads: 3,
        },
        norm2: LayerNorm::read(reader, &format!("{name}.norm2"), WIDTH, 1e-6),
        fc1: Linear::read(reader, &format!("{name}.fc1"), WIDTH, 2 * WIDTH),
        fc2: Linear::read(reader, &format!("{name}.fc2"), 2 * WIDTH, WIDTH),
    };
    let blocks = vec![block("blocks.0"), block("blocks.1")];
    Box::new(Transformer {
        embed: reader.tensor("embed.weight", [WIDTH, 3, PATCH, PATCH]),
        bias: reader.tensor("embed.bias", [WIDTH]),
        token: reader.tensor("token", [1, 1, WIDTH]),
        positions: reader.tensor("positions", [1, TOKENS, WIDTH]),
        blocks,
        head: Linear::read(reader, "head", WIDTH, 5),
    })
}

impl Network for Transformer {
    fn forward(&self, images: Tensor<4>, watch: &mut dyn TapHook) -> Tensor<2> {
        let [batch, ..] = images.dims();
        let options = ConvOptions::new([PATCH; 2], [0, 0], [1, 1], 1);
        let patches = conv2d(images, self.embed.clone(), Some(self.bias.clone()), options);
        let patches = patches.reshape([batch, WIDTH, TOKENS - 1]).swap_dims(1, 2);
        let mut x = Tensor::cat(vec![self.token.clone().repeat_dim(0, batch), patches], 1) + self.positions.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let normed = watch.tokens(&format!("blocks.{i}.norm1"), block.norm1.forward(x.clone()));
            x = x + block.attention.forward(normed, watch);
            let hidden = gelu(block.fc1.forward(block.norm2.forward(x.clone())));
            x = x + block.fc2.forward(hidden);
        }
        let [batch, ..] = x.dims();
        self.head.forward(x.narrow(1, 0, 1).reshape([batch, WIDTH]))
    }
}

/// One of the fixture's networks, of the tensors behind `prefix`.
fn frozen(
    prefix: &str,
    taps: Vec<TapSpec>,
    head: &'static str,
    build: fn(&mut WeightReader) -> Box<dyn Network>,
) -> Frozen {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attribution.safetensors");
    let bytes = fs::read(path).expect("a fixture");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    let own = tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix(prefix)?.to_owned(), view)));
    let own = own.filter(|(name, _)| name != "logits");
    let bytes = safetensors::serialize(own, None).expect("tensors");
    let compute = compute();
    let reader = WeightReader::from_bytes(bytes.leak(), "attribution.safetensors", &compute.device).expect("weights");
    let architecture = Architecture {
        name: "small",
        // Black is -2.
        preprocessing: Preprocessing { resize: SIDE, crop: SIDE, mean: [0.4; 3], std: [0.2; 3], ..imagenet() },
        default_taps: &[],
        taps,
        auxiliary_taps: None,
        alias: |_| None,
        head,
        build: Box::new(build),
    };
    Frozen::new(architecture, reader, None, &compute).expect("a network")
}

fn convolutional() -> Frozen {
    frozen("weights.", vec![TapSpec::map("layer", 8, 2)], "fc.weight", small)
}

fn attentive() -> Frozen {
    let taps = (0..2).map(|i| TapSpec::tokens(format!("blocks.{i}.norm1"), WIDTH, PATCH, 1)).collect();
    frozen("transformer.", taps, "head.weight", transformer)
}

fn golden(key: &str) -> Tensor<4> {
    let (shape, values) = fixture("attribution").f32s(key);
    Tensor::from_data(TensorData::new(values, shape), &compute().device)
}

/// The fixture's images and the classes that are explained.
fn given() -> (Tensor<4>, Vec<usize>) {
    let classes = fixture("attribution").i64s("classes").1.into_iter().map(|class| class as usize).collect();
    (golden("images"), classes)
}

fn method(name: &str, backbone: &Frozen) -> Box<dyn AttributionMethod> {
    let context = MethodContext { batch_size: 5, ..MethodContext::new(backbone) };
    name.parse::<MethodSpec>().expect("a method").build(&context).expect("one for this network")
}

/// Compares a method's maps with the fixture's of the same name.
fn assert_golden(name: &str, method: &dyn AttributionMethod, backbone: &Frozen) {
    let (images, classes) = given();
    let found = method.explain(backbone, &images, &classes).expect("maps");
    let expected = golden(&format!("maps.{name}"));
    assert_eq!(found.maps.dims(), expected.dims(), "{name}");
    assert_within(name, &values(found.maps), &values(expected), TOLERANCE);
}

#[test]
fn the_networks_are_pytorchs() {
    let (images, _) = given();
    for (backbone, key) in [(convolutional(), "logits"), (attentive(), "transformer.logits")] {
        let logits = values(backbone.forward(images.clone(), &[]).logits);
        assert_within(key, &logits, &fixture("attribution").f32s(key).1, 1e-4);
    }
}

#[test]
fn class_activation_maps_are_those_of_the_library() {
    let backbone = convolutional();
    for name in ["grad-cam", "grad-cam++", "layer-cam", "score-cam", "ablation-cam"] {
        assert_golden(name, method(name, &backbone).as_ref(), &backbone);
    }
}

#[test]
fn integrated_gradients_are_those_of_the_library() {
    let backbone = convolutional();
    let preprocessing = backbone.spec().preprocessing.clone();
    assert_golden("integrated-gradients", &IntegratedGradients { steps: 20, preprocessing }, &backbone);
}

#[test]
fn rise_with_fixed_masks_is_that_of_the_library() {
    let rise = Rise { masks: Masks::Fixed(golden("masks")), batch_size: 7 };
    assert_golden("rise", &rise, &convolutional());
}

#[test]
fn other_maps_of_layers_are_those_of_their_definitions() {
    let backbone = convolutional();
    assert_golden("sidu", method("sidu", &backbone).as_ref(), &backbone);
    let layer = Layer::named(&backbone, "layer", SIDE).expect("a layer");
    assert_golden("fd-cam", &FdCam { layer, quantile: 0.75, batch_size: 3 }, &backbone);
    let preprocessing = backbone.spec().preprocessing.clone();
    assert_golden("iia", &Iia { layer, steps: 4, preprocessing, batch_size: 3 }, &backbone);
}

#[test]
fn maps_of_attention_are_those_of_their_definitions() {
    let backbone = attentive();
    for name in ["rollout", "transformer-attribution", "daam"] {
        assert_golden(name, method(name, &backbone).as_ref(), &backbone);
    }
    let (images, classes) = given();
    let passes = |name| method(name, &backbone).explain(&backbone, &images, &classes).expect("maps").passes;
    assert_eq!(passes("rollout"), Passes { forward: 3, backward: 0 });
    assert_eq!(passes("daam"), Passes { forward: 3, backward: 3 });
}

/// Attention as it is shown is attention as it is used, and its gradient what a change of it does.
#[test]
fn attention_is_what_the_network_goes_by() {
    let backbone = attentive();
    let (images, classes) = given();
    let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| explainer_tests::one_hot(&logits, &classes[rows]);
    let blocks = backbone.attention(images.clone(), Some(&cotangent)).expect("attention");
    assert_eq!(blocks.len(), 2);
    for block in &blocks {
        assert_eq!(block.weights.dims(), [3, 3, TOKENS, TOKENS]);
        assert_eq!(block.values.dims(), [3, 3, TOKENS, WIDTH / 3]);
        assert!(values(block.weights.clone().sum_dim(3)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        let gradient = block.gradient.as_ref().expect("a gradient");
        // Both are gradients of one score: dy/dW_ij = <dy/dz_i, V_j>, head by head.
        let heads = gradient.heads.clone().reshape([3, TOKENS, 3, WIDTH / 3]).swap_dims(1, 2);
        let expected = heads.matmul(block.values.clone().swap_dims(2, 3));
        assert_within("gradient", &values(gradient.weights.clone()), &values(expected), 1e-4);
    }
    let plain = backbone.attention(images.clone(), None).expect("attention");
    assert!(plain.iter().all(|block| block.gradient.is_none()));
    assert_within("weights", &values(plain[1].weights.clone()), &values(blocks[1].weights.clone()), 1e-6);
    assert!(convolutional().attention(images, None).is_none());
}

/// Every method on every network that it is for: maps in 0..1 that are not flat, of each image for itself.
#[test]
fn maps_are_in_range_and_do_not_depend_on_the_batch() {
    let (images, classes) = given();
    for backbone in [convolutional(), attentive()] {
        let mut explained = 0;
        for form in names() {
            let name = form.split('[').next().expect("a name");
            let name = if form == name { name.to_owned() } else { format!("{name}@6") };
            let context = MethodContext { batch_size: 5, ..MethodContext::new(&backbone) };
            let Ok(method) = name.parse::<MethodSpec>().expect("a method").build(&context) else { continue };
            explained += 1;
            let all = method.explain(&backbone, &images, &classes).expect("maps").maps;
            let [batch, one, height, width] = all.dims();
            assert_eq!((batch, one), (3, 1), "{name}");
            let flat = values(all.clone());
            assert!(flat.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)), "{name}");
            // Abs-CAM's is empty where the class's logit of the masked image is negative.
            if !["uniform", "abs-cam"].contains(&name.as_str()) {
                assert!(flat.chunks(height * width).all(|map| map.iter().any(|v| *v != map[0])), "{name} is flat");
            }
            let last = images.clone().select(0, int_tensor(&[2], &images.device()));
            let alone = method.explain(&backbone, &last, &classes[2..]).expect("maps").maps;
            assert_within(&name, &values(alone), &values(all.narrow(0, 2, 1)), 1e-3);
        }
        let expected = if backbone.spec().fixed_side().is_some() { names().len() } else { names().len() - 4 };
        assert_eq!(explained, expected);
    }
}

/// Forward passes from a tap are those of a forward and a backward pass.
#[test]
fn logits_from_a_tap_are_those_of_the_whole_answer() {
    for backbone in [convolutional(), attentive()] {
        let (images, _) = given();
        let name = backbone.spec().taps.last().expect("a tap").name.clone();
        let taps = backbone.taps(&[name]).expect("a tap");
        let seen = backbone.forward(images.clone(), &taps);
        let feature = seen.taps.into_iter().next().expect("a tap");
        let logits = values(backbone.forward_at(images.clone(), taps[0], feature.clone()));
        assert_within("own", &logits, &values(seen.logits), 1e-4);
        let answer = backbone.vjp_at(images.clone(), taps[0], feature.clone(), &|logits, _| logits.ones_like());
        assert_within("answer", &logits, &values(answer.logits), 1e-4);
        // Ten features of one image.
        let many = explainer_zoo::backbone::Tap::stack(vec![feature.rows(0, 1); 10]).expect("one kind");
        let logits = values(backbone.forward_at(images.narrow(0, 0, 1), taps[0], many));
        assert!(logits.chunks(5).all(|row| row.iter().zip(&logits[..5]).all(|(a, b)| (a - b).abs() < 1e-4)));
    }
}
