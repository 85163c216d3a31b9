//! Average drop and increase in confidence of given maps on a real backbone, against PyTorch.

use burn::tensor::{Tensor, TensorData};
use explainer_tests::{compute, facts, indices, int_tensor, oracle, photographs, predicted, real_backbone};
use explainer_train::metric::MaskedConfidence;
use explainer_zoo::backbone::Backbone;

/// Of the drop, a fraction of the clean confidence.
const DROP: f32 = 1e-3;
/// Confidences this near are neither surely larger nor surely smaller.
const TIE: f32 = 1e-4;

#[test]
fn drop_and_increase_in_confidence_are_pytorchs() {
    let (Some(facts), Some(oracle)) = (facts(), oracle("metrics")) else { return };
    let entry = &facts["metrics"];
    let name = entry["backbone"].as_str().expect("oracle.json names a backbone");
    let compute = compute();
    let Some(backbone) = real_backbone(name, &compute) else { return };
    let Some(images) = photographs(entry, &backbone.spec().preprocessing, &compute.device) else { return };
    let logits = backbone.observe(images.clone(), &[]).logits;
    let classes = indices(&entry["classes"]);
    assert_eq!(predicted(logits.clone()), classes, "predicted classes");
    let (shape, maps) = oracle.f32s("maps");
    let maps = Tensor::<4>::from_data(TensorData::new(maps, shape), &compute.device);

    let metric = MaskedConfidence { percents: vec![100.0, 50.0, 15.0] };
    let class = int_tensor(&classes, &compute.device);
    let rows = metric.measure(&backbone, &backbone.spec().preprocessing, &images, logits, &class, maps);
    let (shape, expected) = oracle.f32s("adic.per_image");
    assert_eq!(shape, [rows.len(), 2 * metric.percents.len()]);
    let mut wrong = Vec::new();
    for (image, (row, expected)) in rows.iter().zip(expected.chunks(shape[1])).enumerate() {
        assert_eq!(row.masked.len(), metric.percents.len());
        for ((percent, masked), expected) in metric.percents.iter().zip(&row.masked).zip(expected.chunks(2)) {
            let drop = (row.clean - masked).max(0.0) / row.clean;
            let increased = f32::from(u8::from(masked > &row.clean));
            eprintln!("image {image} at {percent}%: drop {drop:.5}, PyTorch {:.5}", expected[0]);
            // Written so that NaN fails.
            let same_drop = (drop - expected[0]).abs() <= DROP;
            let same_increase = increased == expected[1] || (masked - row.clean).abs() <= TIE;
            if !(same_drop && same_increase) {
                wrong.push(format!("image {image} at {percent}%: {drop}, {increased} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "drop and increase in confidence:\n{}", wrong.join("\n"));
}
