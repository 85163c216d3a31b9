//! Maps that know nothing of the image: what every explainer has to beat.

use burn::tensor::{Device, Tensor, TensorData};

/// The same value everywhere: `[batch,1,side,side]` of ones.
pub fn uniform(batch: usize, side: usize, device: &Device) -> Tensor<4> {
    Tensor::ones([batch, 1, side, side], device)
}

/// A Gaussian around the centre with a standard deviation of a quarter of the side, 1 at its top:
/// `[batch,1,side,side]`. Photographers put what matters in the middle.
pub fn centre_gaussian(batch: usize, side: usize, device: &Device) -> Tensor<4> {
    let centre = (side as f32 - 1.0) / 2.0;
    let spread = side as f32 / 4.0;
    let bell = |i: usize| (-((i as f32 - centre) / spread).powi(2) / 2.0).exp();
    let values: Vec<f32> = (0..side * side).map(|i| bell(i / side) * bell(i % side)).collect();
    Tensor::<4>::from_data(TensorData::new(values, [1, 1, side, side]), device).repeat_dim(0, batch)
}
