//! Metrics of given maps on a real backbone, compared with PyTorch's values.

use burn::tensor::{Tensor, TensorData};
use explainer_metrics::{ImageBatch, MaskedConfidence, MetricInput, metric};
use explainer_tests::{Oracle, compute, facts, indices, int_tensor, oracle, photographs, predicted, real_backbone};
use explainer_zoo::backbone::{Backbone, Frozen};
use serde_json::Value;

/// Tolerance of the drop, a fraction of the clean confidence.
const DROP: f32 = 1e-3;
/// Tolerance of an area under a curve of scores.
const AREA: f64 = 1e-3;
/// Largest difference of two confidences whose order is not compared.
const TIE: f32 = 1e-4;

/// The golden values, their backbone, and the photographs, normalised `[B,3,H,W]`, with their maps `[B,1,h,w]`.
struct Golden {
    facts: Value,
    oracle: Oracle,
    backbone: Frozen,
    images: Tensor<4>,
    maps: Tensor<4>,
}

fn golden() -> Option<Golden> {
    let (facts, oracle) = (facts()?, oracle("metrics")?);
    let entry = &facts["metrics"];
    let name = entry["backbone"].as_str().expect("oracle.json names a backbone");
    let compute = compute();
    let backbone = real_backbone(name, &compute)?;
    let images = photographs(entry, &backbone.spec().preprocessing, &compute.device)?;
    let (shape, maps) = oracle.f32s("maps");
    let maps = Tensor::<4>::from_data(TensorData::new(maps, shape), &compute.device);
    Some(Golden { facts: entry.clone(), oracle, backbone, images, maps })
}

#[test]
fn drop_and_increase_in_confidence_are_pytorchs() {
    let Some(Golden { facts, oracle, backbone, images, maps }) = golden() else { return };
    let logits = backbone.forward(images.clone(), &[]).logits;
    let classes = indices(&facts["classes"]);
    assert_eq!(predicted(logits.clone()), classes, "predicted classes");

    let metric = MaskedConfidence { percents: vec![100.0, 50.0, 15.0] };
    let class = int_tensor(&classes, &images.device());
    let rows = metric.measure(&backbone, &backbone.spec().preprocessing, &images, logits, &class, maps);
    let (shape, expected) = oracle.f32s("adic.per_image");
    assert_eq!(shape, [rows.len(), 2 * metric.percents.len()]);
    let mut wrong = Vec::new();
    for (image, (row, expected)) in rows.iter().zip(expected.chunks(shape[1])).enumerate() {
        assert_eq!(row.masked.len(), metric.percents.len());
        for ((percent, masked), expected) in metric.percents.iter().zip(&row.masked).zip(expected.chunks(2)) {
            let (clean, masked) = row.clean.zip(*masked).expect("finite scores");
            let drop = (clean - masked).max(0.0) / clean;
            let increased = f32::from(u8::from(masked > clean));
            eprintln!("image {image} at {percent}%: drop {drop:.5}, PyTorch {:.5}", expected[0]);
            // Written so that NaN fails.
            let same_drop = (drop - expected[0]).abs() <= DROP;
            let same_increase = increased == expected[1] || (masked - clean).abs() <= TIE;
            if !(same_drop && same_increase) {
                wrong.push(format!("image {image} at {percent}%: {drop}, {increased} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "drop and increase in confidence:\n{}", wrong.join("\n"));
}

#[test]
fn deletion_and_insertion_are_pytorchs() {
    let Some(Golden { facts, oracle, backbone, images, maps }) = golden() else { return };
    let (shape, expected) = oracle.f32s("deletion_insertion.per_image");
    assert_eq!(shape[1], 2);
    let (images, maps) = (images.narrow(0, 0, shape[0]), maps.narrow(0, 0, shape[0]));
    let logits = backbone.forward(images.clone(), &[]).logits;
    let classes = indices(&facts["classes"])[..shape[0]].to_vec();
    let preprocessing = &backbone.spec().preprocessing;
    let batch = ImageBatch::new(&backbone, preprocessing, images, logits, classes).expect("all of one size");
    let attributions = MetricInput::new(&batch, maps).expect("one map for each image");
    // 224 * 8 pixels a step are 28 steps of an image of 224 x 224.
    let mut wrong = Vec::new();
    for (column, name) in ["deletion@28", "insertion@28"].into_iter().enumerate() {
        let areas = metric(name).expect("a metric").measure(&attributions).expect("areas");
        for (image, (area, expected)) in areas.iter().zip(expected.chunks(2)).enumerate() {
            let (area, expected) = (area.unwrap_or(f64::NAN), f64::from(expected[column]));
            eprintln!("image {image}, {name}: {area:.5}, PyTorch {expected:.5}");
            let same = (area - expected).abs() <= AREA; // NaN fails
            if !same {
                wrong.push(format!("image {image}, {name}: {area} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "areas:\n{}", wrong.join("\n"));
}
