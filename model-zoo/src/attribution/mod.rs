//! Methods without training, to compare with.

mod floors;
mod grad_cam;

pub use floors::{centre_gaussian, uniform};
pub use grad_cam::grad_cam;
