//! The TAME objective against PyTorch's golden values.

use burn::tensor::{Device, Int, Tensor, TensorData};
use explainer_tests::{Oracle, assert_close, compute, oracle};
use explainer_zoo::training::{Objective, Selection, cross_entropy, cross_entropy_gradient};

/// Sigmoid maps of the classes predicted in the batch, `[B,B,h,w]`, column `j` for image `j`'s class.
fn maps(oracle: &Oracle, class: &Tensor<1, Int>, device: &Device) -> Tensor<4> {
    let (shape, values) = oracle.f32s("train.maps_sigmoid");
    Tensor::<4>::from_data(TensorData::new(values, shape), device).select(1, class.clone())
}

fn class(oracle: &Oracle, device: &Device) -> Tensor<1, Int> {
    let (shape, values) = oracle.i64s("targets");
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn logits(oracle: &Oracle, device: &Device) -> Tensor<2> {
    let (shape, values) = oracle.f32s("logits_masked");
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `loss.{preset}.{selection}` holds the weighted total, then the three terms *without* their weights; smoothness is 0
/// where its weight is.
#[test]
fn every_loss_term_is_pytorchs() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device;
    let class = class(&oracle, &device);
    for (preset, objective) in [("classic", Objective::ttame()), ("vit", Objective::ptame_vit_b_16())] {
        for (name, selection) in [("batch", Selection::Batch), ("matching", Selection::Matching)] {
            let objective = Objective { selection, ..objective.clone() };
            let ce = cross_entropy(logits(&oracle, &device), class.clone());
            let regulariser = objective.regulariser(maps(&oracle, &class, &device));
            let found = objective.terms(ce, &regulariser).read().unwrap();
            let (_, expected) = oracle.f32s(&format!("loss.{preset}.{name}"));
            let found = [found.total, found.ce, found.area, found.smooth];
            for (term, (found, expected)) in ["total", "ce", "area", "smooth"].iter().zip(found.iter().zip(&expected)) {
                assert_close(&format!("{preset} {name} {term}"), &[*found], &[*expected], 1e-5);
            }
        }
    }
}

/// The golden gradients are the head's; that of the logits is checked against the golden logits through autodiff.
#[test]
fn the_logit_gradient_is_autodiffs_on_the_golden_logits() {
    let Some(oracle) = oracle("heads") else { return };
    let device = compute().device.autodiff();
    let class = class(&oracle, &device);
    let logits = logits(&oracle, &device).require_grad();
    let gradients = cross_entropy(logits.clone(), class.clone()).backward();
    let expected = logits.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
    let [batch, _] = logits.dims();
    let found = cross_entropy_gradient(logits.inner(), class.inner(), batch).try_into_vec_as::<f32>().unwrap();
    assert_close("d CE / d logits", &found, &expected, 1e-5);
}
