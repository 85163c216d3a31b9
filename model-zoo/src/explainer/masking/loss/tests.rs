use super::*;
use burn::tensor::{Device, Tolerance};

fn paper() -> MaskLoss {
    MaskLoss::Paper(PaperLoss::default())
}

fn released() -> MaskLoss {
    MaskLoss::Released(ReleasedLoss::default())
}

fn ints(values: &[i32]) -> Tensor<1, Int> {
    Tensor::from_ints(values, &Device::default())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} instead of {expected}");
    }
}

#[test]
fn the_presets_are_the_published_ones() {
    assert_eq!(MaskLoss::default(), released());
    let p = PaperLoss::default();
    assert_eq!((p.tv, p.area, p.area_power, p.preserve, p.destroy), (10.0, 1e-3, 0.3, 1.0, 5.0));
    assert!((0.2..=0.3).contains(&p.destroy_power));
    let r = ReleasedLoss::default();
    assert_eq!((r.area, r.tv, r.preserve, r.preserve_margin, r.destroy_margin), (8.0, 0.005, 0.3, 1.0, 5.0));
}

#[test]
fn the_papers_terms_by_hand() {
    // Softmax of (ln 6, ln 3, 0) is (0.6, 0.3, 0.1).
    let logits = Tensor::<2>::from_floats([[6.0_f32.ln(), 3.0_f32.ln(), 0.0]; 2], &Device::default());
    let class = ints(&[0, 2]);
    let preserve = values(paper().term(MaskedSide::Preserve, logits.clone(), class.clone()));
    close(&preserve, &[-(0.6_f32.ln()), -(0.1_f32.ln())]);
    let destroy = values(paper().term(MaskedSide::Destroy, logits.clone(), class.clone()));
    close(&destroy, &[0.6_f32.powf(0.3), 0.1_f32.powf(0.3)]);
    // Weight 1, two images: (p - e_t) / 2.
    let gradient = values(paper().logit_gradient(MaskedSide::Preserve, logits.clone(), class.clone(), 2));
    close(&gradient, &[-0.2, 0.15, 0.05, 0.3, 0.15, -0.45]);
    // Weight 5: 5 * 0.3 p_t^0.3 (e_t - p) / 2.
    let [a, b] = [0.6_f32, 0.1].map(|p| 5.0 * 0.3 * p.powf(0.3) / 2.0);
    let gradient = values(paper().logit_gradient(MaskedSide::Destroy, logits, class, 2));
    close(&gradient, &[0.4 * a, -0.3 * a, -0.1 * a, -0.6 * b, -0.3 * b, 0.9 * b]);
}

#[test]
fn the_released_terms_by_hand() {
    // Margins: the class ahead by 3, ahead by 0.5, behind by 7.
    let logits = Tensor::<2>::from_floats([[4.0, 1.0, 0.0], [0.0, 2.5, 2.0], [8.0, -1.0, 1.0]], &Device::default());
    let class = ints(&[0, 1, 2]);
    close(&values(released().term(MaskedSide::Preserve, logits.clone(), class.clone())), &[0.0, 0.5, 8.0]);
    close(&values(released().term(MaskedSide::Destroy, logits.clone(), class.clone())), &[8.0, 5.5, 0.0]);
    // Preserve has the weight 0.3, destroy 1; three images.
    let third = 1.0 / 3.0;
    let gradient = values(released().logit_gradient(MaskedSide::Preserve, logits.clone(), class.clone(), 3));
    close(&gradient, &[0.0, 0.0, 0.0, 0.0, -0.1, 0.1, 0.1, 0.0, -0.1]);
    let gradient = values(released().logit_gradient(MaskedSide::Destroy, logits, class, 3));
    close(&gradient, &[third, -third, 0.0, 0.0, third, -third, 0.0, 0.0, 0.0]);
}

#[test]
fn closed_forms_are_the_slopes_of_the_terms() {
    let device = Device::default().autodiff();
    let waves = Tensor::<1, Int>::arange(0..28, &Device::default()).float().mul_scalar(1.7).sin().mul_scalar(4.0);
    let class = ints(&[3, 0, 6, 3]);
    for (loss, part) in
        [paper(), released()].iter().flat_map(|l| [MaskedSide::Preserve, MaskedSide::Destroy].map(|p| (l, p)))
    {
        let logits = Tensor::<1>::from_data(waves.to_data(), &device).reshape([4, 7]).detach().require_grad();
        let term = loss.term(part, logits.clone(), class.clone());
        let gradients = term.sum().mul_scalar(loss.weight(part) / 9.0).backward();
        let expected = logits.grad(&gradients).unwrap();
        // 4 images of a batch of 9.
        let found = loss.logit_gradient(part, logits.inner(), class.clone(), 9);
        assert!(values(found.clone()).iter().any(|g| *g != 0.0));
        found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
    }
}

#[test]
fn one_class_can_neither_rise_nor_fall() {
    let logits = Tensor::<2>::from_floats([[2.0], [-1.0]], &Device::default());
    for (loss, part) in
        [paper(), released()].iter().flat_map(|l| [MaskedSide::Preserve, MaskedSide::Destroy].map(|p| (l, p)))
    {
        assert!(values(loss.logit_gradient(part, logits.clone(), ints(&[0, 0]), 2)).iter().all(|g| *g == 0.0));
        assert!(values(loss.term(part, logits.clone(), ints(&[0, 0]))).iter().all(|v| v.is_finite()));
    }
}

/// Raw values of masks of about 0 and 1, to all of f32's places.
fn raw(masks: [[[f32; 3]; 2]; 2], device: &Device) -> Tensor<4> {
    Tensor::<3>::from_floats(masks, device).mul_scalar(200.0).sub_scalar(100.0).reshape([2, 1, 2, 3])
}

#[test]
fn terms_of_masks_by_hand() {
    // A step edge in the last column of the first mask, the second mask empty.
    let device = Device::default();
    let masks = raw([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], [[0.0; 3]; 2]], &device);
    let full = 1.0005_f32.powf(0.3);
    let bare = 5e-4_f32.powf(0.3);
    let area = (2.0 * full + 10.0 * bare) / 12.0;

    let own = paper().regulariser(masks.clone(), &[false, false]);
    let tv = 2.0 / 2.0; // two steps of 1 in one of two images
    close(&[own.tv.into_scalar(), own.area.into_scalar(), own.empty.into_scalar()], &[tv, area, 0.0]);
    close(&[own.loss.into_scalar()], &[10.0 * tv + 1e-3 * area]);

    let own = released().regulariser(masks, &[false, false]);
    // Borders: top 1, bottom 1, right 2, left 0; all halved, over two images.
    let smooth = (2.0 + 0.3 * 4.0) / 4.0;
    close(&[own.tv.into_scalar(), own.area.into_scalar()], &[smooth, area]);
    close(&[own.loss.into_scalar()], &[0.005 * smooth + 8.0 * area]);
}

#[test]
fn a_fake_targets_mask_is_to_be_empty() {
    let device = Device::default();
    // Masks of 0.5 and 0.9 everywhere, raw 0 and ln 9; the second is for a wrong class.
    let even = Tensor::<4>::zeros([1, 1, 2, 2], &device);
    let raw = Tensor::cat(vec![even.clone(), even.clone().add_scalar(9.0_f64.ln())], 0);
    let [none, second] = [[false, false], [false, true]].map(|fake| released().regulariser(raw.clone(), &fake));
    let term = -(0.1_f32.ln()) / 2.0; // of one in two images
    close(&[second.empty.clone().into_scalar()], &[term]);
    close(&[(second.loss - none.loss).into_scalar()], &[0.3 * term]);
    // No mask is too large or too small for its logarithm.
    let far = Tensor::cat(vec![even.clone().add_scalar(1e4), even.sub_scalar(1e4)], 0);
    let empty: f32 = paper().regulariser(far, &[true, true]).empty.into_scalar();
    close(&[empty], &[5e3]);
}

#[test]
fn the_regularisers_gradient_is_its_slope() {
    let device = Device::default();
    let at: Vec<f32> = (0..24).map(|i| (0.9 * i as f32).sin() * 2.0).collect();
    let tensor = |values: &[f32], device: &Device| -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [2, 1, 3, 4]), device)
    };
    for loss in [paper(), released()] {
        let raw = tensor(&at, &device.clone().autodiff()).require_grad();
        let gradients = loss.regulariser(raw.clone(), &[true, false]).loss.backward();
        for (i, slope) in values(raw.grad(&gradients).unwrap()).into_iter().enumerate() {
            let moved = |shift: f32| {
                let mut moved = at.clone();
                moved[i] += shift;
                loss.regulariser(tensor(&moved, &device), &[true, false]).loss.into_scalar::<f32>()
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - slope).abs() < 5e-3, "cell {i}: slope {slope}, difference {difference}");
        }
    }
}

#[test]
fn presence_is_a_binary_cross_entropy() {
    let presence = Tensor::<1>::from_floats([0.0, 2.0, -3.0], &Device::default());
    let loss: f32 = presence_loss(presence, &[false, true, false]).into_scalar();
    let expected = (2.0_f32.ln() + (1.0 + 2.0_f32.exp()).ln() + (1.0 + 3.0_f32.exp()).ln()) / 3.0;
    close(&[loss], &[expected]);
    let presence = Tensor::<1>::from_floats([0.4, -1.0], &Device::default().autodiff()).require_grad();
    let gradients = presence_loss(presence.clone(), &[false, true]).backward();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    // (sigmoid(z) - "it is there") / B
    close(&values(presence.grad(&gradients).unwrap()), &[(sigmoid(0.4) - 1.0) / 2.0, sigmoid(-1.0) / 2.0]);
}
