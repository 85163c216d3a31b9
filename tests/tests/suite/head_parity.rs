//! The TAME head against PyTorch: maps in both modes, running statistics and gradients.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use explainer_tests::{Oracle, assert_close, assert_within, compute, int_tensor, max_abs, oracle, values};
use explainer_train::objective::{Objective, Selection};
use explainer_zoo::explainer::{ClassSelection, Explainer, TameConfig, TameHead, View, min_max};

/// Of maps and running statistics, relative to the largest magnitude.
const FORWARD: f32 = 1e-4;
/// Of gradients, likewise.
const GRADIENT: f32 = 1e-3;
/// Rounding of a gradient that is zero but for rounding, relative to the largest of its convolution's weight.
const ZERO: f32 = 1e-5;

/// The golden head, in training if the device has autodiff.
fn head(oracle: &Oracle, device: &Device) -> TameHead {
    let config =
        TameConfig { channels: vec![12, 24, 40], classes: 20, map_size: [14, 14], branches: true, fuse_bias: true };
    let golden = |name: &str, shape: &[usize]| {
        let (found, values) = oracle.f32s(&format!("weights.{name}"));
        assert_eq!(found, shape, "shape of {name}");
        values
    };
    TameHead::from_values(config, golden, device)
}

fn tensor(oracle: &Oracle, key: &str, device: &Device) -> Tensor<4> {
    let (shape, values) = oracle.f32s(key);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Raw maps of the golden features.
fn maps(oracle: &Oracle, head: &TameHead, classes: ClassSelection, device: &Device) -> Tensor<4> {
    let features: Vec<Tensor<4>> = (0..3).map(|i| tensor(oracle, &format!("features.{i}"), device)).collect();
    // The head does not look at the images.
    let images = Tensor::zeros([features[0].dims()[0], 3, 1, 1], device);
    head.maps(&View { images: &images, features: &features }, classes)
}

fn targets(oracle: &Oracle) -> Vec<usize> {
    oracle.i64s("targets").1.into_iter().map(|class| class as usize).collect()
}

#[test]
fn evaluation_maps_are_pytorchs() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device;
    let maps = min_max(maps(&oracle, &head(&oracle, &device), ClassSelection::All, &device));
    let (shape, expected) = oracle.f32s("eval.maps_minmax");
    assert_eq!(maps.dims()[..], shape[..]);
    assert_close("maps", &values(maps), &expected, FORWARD);
}

#[test]
fn training_maps_and_running_statistics_are_pytorchs() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device.autodiff();
    let head = head(&oracle, &device);
    let maps = sigmoid(maps(&oracle, &head, ClassSelection::All, &device));
    let (shape, expected) = oracle.f32s("train.maps_sigmoid");
    assert_eq!(maps.dims()[..], shape[..]);
    assert_close("maps", &values(maps.inner()), &expected, FORWARD);

    let mut compared = 0;
    for (name, _, found) in head.values() {
        if name.contains("running") {
            assert_close(&name, &found, &oracle.f32s(&format!("train.{name}")).1, FORWARD);
            compared += 1;
        }
    }
    assert_eq!(compared, 6, "mean and variance of three taps");
}

#[test]
fn chosen_classes_have_the_maps_they_have_among_all() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device;
    let head = head(&oracle, &device);
    let classes = int_tensor(&targets(&oracle), &device);
    let all = maps(&oracle, &head, ClassSelection::All, &device);
    let chosen = maps(&oracle, &head, ClassSelection::Of(classes.clone()), &device);
    assert_close("maps", &values(chosen), &values(all.select(1, classes)), 1e-6);
}

/// The golden cross-entropy has no path to the head: its logits are given. The total's gradient is the regulariser's.
#[test]
fn gradients_are_pytorchs() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device.autodiff();
    let head = head(&oracle, &device);
    let targets = targets(&oracle);
    let classes = ClassSelection::Of(int_tensor(&targets, &device));
    let objective = Objective { selection: Selection::Batch, ..Objective::ttame() };
    let gradients = objective.regulariser(sigmoid(maps(&oracle, &head, classes, &device))).loss.backward();

    for i in 0..3 {
        let (conv, bn) = (&head.convs[i], &head.bns[i]);
        let weight = values(conv.weight.val().grad(&gradients).expect("a gradient of the convolution"));
        let (_, expected) = oracle.f32s(&format!("grad.convs.{i}.weight"));
        assert_close(&format!("convs.{i}.weight"), &weight, &expected, GRADIENT);
        // What follows subtracts the batch's mean, and with it the bias.
        let bias = conv.bias.as_ref().expect("a bias").val();
        let bias = values(bias.grad(&gradients).expect("a gradient of the bias"));
        let (_, golden) = oracle.f32s(&format!("grad.convs.{i}.bias"));
        assert_within(&format!("convs.{i}.bias"), &bias, &golden, ZERO * max_abs(&expected));

        for (part, param) in [("weight", &bn.gamma), ("bias", &bn.beta)] {
            let found = values(param.val().grad(&gradients).expect("a gradient of the normalisation"));
            let (_, expected) = oracle.f32s(&format!("grad.bns.{i}.{part}"));
            assert_close(&format!("bns.{i}.{part}"), &found, &expected, GRADIENT);
        }
    }

    let weight = values(head.fuser.weight.val().grad(&gradients).expect("a gradient of the fusion"));
    let bias = head.fuser.bias.as_ref().expect("a bias").val();
    let bias = values(bias.grad(&gradients).expect("a gradient of the fusion's bias"));
    assert_close("fuser.weight", &weight, &oracle.f32s("grad.fuser.weight").1, GRADIENT);
    assert_close("fuser.bias", &bias, &oracle.f32s("grad.fuser.bias").1, GRADIENT);
    let rows = weight.chunks(weight.len() / bias.len()).zip(&bias).enumerate();
    for (class, (row, bias)) in rows.filter(|(class, _)| !targets.contains(class)) {
        assert!(row.iter().chain([bias]).all(|g| *g == 0.0), "class {class} was not chosen and has a gradient");
    }
}
