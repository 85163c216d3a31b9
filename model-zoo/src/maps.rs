//! Normalisation of heat maps.

use burn::tensor::Tensor;

/// Each map stretched to 0..1 on its own: (c - min) / max(max - min, 1e-8). Raw maps `[B,k,h,w]`, same shape.
pub fn min_max(maps: Tensor<4>) -> Tensor<4> {
    let [batch, classes, height, width] = maps.dims();
    let flat = maps.reshape([batch, classes, height * width]);
    let low = flat.clone().min_dim(2);
    let range = (flat.clone().max_dim(2) - low.clone()).clamp_min(1e-8);
    ((flat - low) / range).reshape([batch, classes, height, width])
}
