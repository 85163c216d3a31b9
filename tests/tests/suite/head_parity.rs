//! The TAME head against PyTorch, as T-TAME's and as P-TAME's: maps in both modes, running statistics and gradients.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use explainer_tests::{Oracle, assert_close, assert_within, compute, fixture, int_tensor, max_abs, oracle, values};
use explainer_zoo::backbone::TapSpec;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput, Method, TameConfig, TameHead};
use explainer_zoo::maps::min_max;
use explainer_zoo::training::{Objective, Selection};

/// Of maps and running statistics, relative to the largest magnitude.
const FORWARD: f32 = 1e-4;
/// Of gradients, likewise.
const GRADIENT: f32 = 1e-3;
/// Rounding of a gradient that is zero but for rounding, relative to the largest of its convolution's weight.
const ZERO: f32 = 1e-5;

/// Golden values of a head: T-TAME's, which may be missing, and P-TAME's, whose taps are doubled up to twice.
fn golden(method: Method) -> Option<Golden> {
    let taps = |shapes: &[(usize, usize)]| -> Vec<TapSpec> {
        shapes.iter().map(|(channels, stride)| TapSpec::map("tap", *channels, *stride)).collect()
    };
    Some(match method {
        Method::Ptame => {
            let config = TameConfig::ptame(&taps(&[(3, 4), (2, 8), (4, 16)]), 5, 32).expect("sides 8, 4 and 2");
            Golden { oracle: fixture("ptame_head"), config, objective: Objective::ptame_vgg16() }
        }
        _ => {
            let config = TameConfig::ttame(&taps(&[(12, 16), (24, 32), (40, 64)]), 20, 224);
            Golden { oracle: oracle("heads")?, config, objective: Objective::ttame() }
        }
    })
}

struct Golden {
    oracle: Oracle,
    config: TameConfig,
    objective: Objective,
}

/// The golden head, in training if the device has autodiff.
fn head(golden: &Golden, device: &Device) -> TameHead {
    let values = |name: &str, shape: &[usize]| {
        let (found, values) = golden.oracle.f32s(&format!("weights.{name}"));
        assert_eq!(found, shape, "shape of {name}");
        values
    };
    TameHead::from_values(golden.config.clone(), values, device)
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
    head.maps(&ExplainerInput { images: &images, features: &features }, classes)
}

fn targets(oracle: &Oracle) -> Vec<usize> {
    oracle.i64s("targets").1.into_iter().map(|class| class as usize).collect()
}

fn evaluation_maps_are_pytorchs(method: Method) {
    let Some(golden) = golden(method) else { return };
    let (oracle, device) = (&golden.oracle, compute().device);
    let maps = min_max(maps(oracle, &head(&golden, &device), ClassSelection::All, &device));
    let (shape, expected) = oracle.f32s("eval.maps_minmax");
    assert_eq!(maps.dims()[..], shape[..]);
    assert_close("maps", &values(maps), &expected, FORWARD);
}

fn training_maps_and_running_statistics_are_pytorchs(method: Method) {
    let Some(golden) = golden(method) else { return };
    let (oracle, device) = (&golden.oracle, compute().device.autodiff());
    let head = head(&golden, &device);
    let maps = sigmoid(maps(oracle, &head, ClassSelection::All, &device));
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

fn chosen_classes_have_the_maps_they_have_among_all(method: Method) {
    let Some(golden) = golden(method) else { return };
    let (oracle, device) = (&golden.oracle, compute().device);
    let head = head(&golden, &device);
    let classes = int_tensor(&targets(oracle), &device);
    let all = maps(oracle, &head, ClassSelection::All, &device);
    let chosen = maps(oracle, &head, ClassSelection::Of(classes.clone()), &device);
    assert_close("maps", &values(chosen), &values(all.select(1, classes)), 1e-6);
}

/// The golden cross-entropy has no path to the head: its logits are given, or it is left out. The total's gradient is
/// the regulariser's.
fn gradients_are_pytorchs(method: Method) {
    let Some(golden) = golden(method) else { return };
    let (oracle, device) = (&golden.oracle, compute().device.autodiff());
    let head = head(&golden, &device);
    let targets = targets(oracle);
    let classes = ClassSelection::Of(int_tensor(&targets, &device));
    let objective = Objective { selection: Selection::Batch, ..golden.objective.clone() };
    let gradients = objective.regulariser(sigmoid(maps(oracle, &head, classes, &device))).loss.backward();

    for i in 0..3 {
        let (conv, bn) = (&head.convs[i], &head.bns[i]);
        let weight = values(conv.weight.val().grad(&gradients).expect("a gradient of the convolution"));
        let (_, expected) = oracle.f32s(&format!("grad.convs.{i}.weight"));
        assert_close(&format!("convs.{i}.weight"), &weight, &expected, GRADIENT);
        // What follows subtracts the batch's mean, and with it the bias.
        let bias = conv.bias.as_ref().expect("a bias").val();
        let bias = values(bias.grad(&gradients).expect("a gradient of the bias"));
        let (_, zero) = oracle.f32s(&format!("grad.convs.{i}.bias"));
        assert_within(&format!("convs.{i}.bias"), &bias, &zero, ZERO * max_abs(&expected));

        for (part, param) in [("weight", &bn.gamma), ("bias", &bn.beta)] {
            let found = values(param.val().grad(&gradients).expect("a gradient of the normalisation"));
            let (_, expected) = oracle.f32s(&format!("grad.bns.{i}.{part}"));
            assert_close(&format!("bns.{i}.{part}"), &found, &expected, GRADIENT);
        }
    }

    let weight = values(head.fuser.weight.val().grad(&gradients).expect("a gradient of the fusion"));
    assert_close("fuser.weight", &weight, &oracle.f32s("grad.fuser.weight").1, GRADIENT);
    let rows = weight.chunks(weight.len() / golden.config.classes).enumerate();
    for (class, row) in rows.filter(|(class, _)| !targets.contains(class)) {
        assert!(row.iter().all(|g| *g == 0.0), "class {class} was not chosen and has a gradient");
    }
    assert_eq!(head.fuser.bias.is_some(), method == Method::Ttame);
    if let Some(bias) = &head.fuser.bias {
        let bias = values(bias.val().grad(&gradients).expect("a gradient of the fusion's bias"));
        assert_close("fuser.bias", &bias, &oracle.f32s("grad.fuser.bias").1, GRADIENT);
        for (class, g) in bias.iter().enumerate().filter(|(class, _)| !targets.contains(class)) {
            assert!(*g == 0.0, "class {class} was not chosen and its bias has a gradient");
        }
    }
}

/// Every check for one method.
macro_rules! parity {
    ($($name:ident: $method:expr),+ $(,)?) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn evaluation_maps() {
                    evaluation_maps_are_pytorchs($method);
                }

                #[test]
                fn training_maps_and_running_statistics() {
                    training_maps_and_running_statistics_are_pytorchs($method);
                }

                #[test]
                fn chosen_classes() {
                    chosen_classes_have_the_maps_they_have_among_all($method);
                }

                #[test]
                fn gradients() {
                    gradients_are_pytorchs($method);
                }
            }
        )+
    };
}

parity!(ttame: Method::Ttame, ptame: Method::Ptame);

#[test]
fn the_loss_on_ptames_maps_is_pytorchs() {
    let golden = golden(Method::Ptame).expect("a fixture");
    let (oracle, device) = (&golden.oracle, compute().device);
    let (shape, maps) = oracle.f32s("train.maps_sigmoid");
    let maps = Tensor::<4>::from_data(TensorData::new(maps, shape), &device);
    let chosen = maps.select(1, int_tensor(&targets(oracle), &device));
    let loss = golden.objective.regulariser(chosen).loss;
    assert_close("loss", &values(loss), &oracle.f32s("loss").1, 1e-5);
}
