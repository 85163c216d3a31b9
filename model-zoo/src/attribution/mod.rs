//! Methods without training, to compare with, and the path integral that BEE's maps are made of.

mod floors;
mod grad_cam;
pub mod path;

pub use floors::{centre_gaussian, uniform};
pub use grad_cam::grad_cam;
pub use path::integrated_gradients;
