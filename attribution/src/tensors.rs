//! Tensor helpers that several methods share.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

pub(crate) use explainer_zoo::explainer::bee::SplitMix64 as RandomStream;

/// `0..count` in chunks of `size`; the last one may be shorter.
pub(crate) fn chunks(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..count).step_by(size).map(move |from| from..count.min(from + size))
}

/// Indices `[n]` on a device.
pub(crate) fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// The scores of one class: column `class` of `[n,K]`, `[n]`.
pub(crate) fn class_scores(scores: Tensor<2>, class: usize) -> Tensor<1> {
    let [count, _] = scores.dims();
    scores.narrow(1, class, 1).reshape([count])
}

/// The values of a tensor in row-major order.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// A tensor of these values in row-major order.
pub(crate) fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Standard normal values, a pure function of (shape, seed, purpose, number).
pub(crate) fn normal<const D: usize>(
    shape: [usize; D],
    seed: u64,
    purpose: &str,
    number: u64,
    device: &Device,
) -> Tensor<D> {
    let mut stream = RandomStream::new(seed, purpose, &[number]);
    from_values((0..shape.iter().product()).map(|_| stream.normal() as f32).collect(), shape, device)
}

/// Min-max normalisation of each row of `[n,m]` to 0..=1; a constant row becomes 0.
pub(crate) fn min_max_rows(rows: Tensor<2>) -> Tensor<2> {
    let low = rows.clone().min_dim(1);
    let range = (rows.clone().max_dim(1) - low.clone()).clamp_min(1e-8);
    (rows - low) / range
}
