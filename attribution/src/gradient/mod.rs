//! Gradients of the target class's logit, and their integrals along paths.

pub(crate) mod iia;
pub(crate) mod integrated_gradients;
pub(crate) mod smooth_grad;

pub use iia::Iia;
pub use integrated_gradients::IntegratedGradients;
pub use smooth_grad::SmoothGrad;
