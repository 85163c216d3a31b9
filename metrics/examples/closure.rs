//! Metrics of two heat maps, for a classifier that is a closure from images to logits:
//! `cargo run --release -p explainer-metrics --example closure`.

#![allow(clippy::print_stdout)] // an example prints its results

use burn::tensor::{Device, Tensor, TensorData};
use explainer_metrics::{ImageBatch, MetricError, MetricInput, metric};
use explainer_zoo::backbone::ClosureBackbone;

const SIDE: usize = 32;

fn main() -> Result<(), MetricError> {
    // Two classes, "bright" and "dark": their logits are the image's mean value and its negative.
    let classifier = ClosureBackbone::new("brightness", SIDE, 2, |images: Tensor<4>| {
        let [batch, ..] = images.dims();
        let mean = images.mean_dim(3).mean_dim(2).mean_dim(1).reshape([batch, 1]);
        Tensor::cat(vec![mean.clone() * 10.0, mean * -10.0], 1)
    });
    // A bright square on a dark ground is the image. One map shows the square, the other one everything else.
    let square: Vec<f32> = (0..SIDE * SIDE).map(|i| u8::from(i / SIDE / 8 == 1 && i % SIDE / 8 == 1).into()).collect();
    let good = Tensor::<4>::from_data(TensorData::new(square, [1, 1, SIDE, SIDE]), &Device::default());
    let bad = good.clone().neg().add_scalar(1.0);

    let batch = ImageBatch::from_images(&classifier, good.clone().repeat_dim(1, 3))?;
    let attributions = MetricInput::for_images(&batch, Tensor::cat(vec![good, bad], 0), vec![0, 0])?;
    for name in ["ad@50", "insertion", "deletion@28", "infidelity", "sparsity"] {
        let metric = metric(name)?;
        let (spec, values) = (metric.spec(), metric.measure(&attributions)?);
        println!("{:<12} {:<12} {:?} is better: {values:.3?} {}", spec.family, spec.name, spec.better, spec.unit);
    }
    Ok(())
}
