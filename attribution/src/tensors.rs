//! What several methods do with tensors.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

use explainer_zoo::explainer::bee::Stream;

/// Images a call by default: they fill a GPU, and hold 20 MB as images of 224 pixels.
pub(super) const PER_CALL: usize = 32;

/// `0..count` in pieces of `size`, the last one shorter where it does not come out even.
pub(super) fn parts(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..count).step_by(size).map(move |from| from..count.min(from + size))
}

/// Indices `[n]` on a device.
pub(super) fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Of `[n,K]` the column `class`: `[n]`.
pub(super) fn column(rows: Tensor<2>, class: usize) -> Tensor<1> {
    let [count, _] = rows.dims();
    rows.narrow(1, class, 1).reshape([count])
}

/// The values of a tensor in row-major order.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// A map, or a batch of them, from the host.
pub(super) fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Standard normal values of this shape, from a stream of their own for (seed, purpose, number).
pub(super) fn normal<const D: usize>(
    shape: [usize; D],
    seed: u64,
    purpose: &str,
    number: u64,
    device: &Device,
) -> Tensor<D> {
    let mut stream = Stream::new(seed, purpose, &[number]);
    from_values((0..shape.iter().product()).map(|_| stream.normal() as f32).collect(), shape, device)
}

/// Each row of `[n,m]` stretched to 0..1 on its own, a constant one to 0.
pub(super) fn stretch(rows: Tensor<2>) -> Tensor<2> {
    let low = rows.clone().min_dim(1);
    let range = (rows.clone().max_dim(1) - low.clone()).clamp_min(1e-8);
    (rows - low) / range
}
