//! CPU kernels of the layers of frozen classifiers, and the resize of their images: slices of numbers in, slices of numbers
//! out. The crate knows nothing of tensors, files or networks.
//!
//! The kernels are a crate of their own because they alone must be compiled as one unit at the highest optimisation level:
//! how well the compiler vectorises such a loop depends on what it can inline (docs/src/benchmarks/performance.md, "Building").

pub mod batch_norm;
pub mod elements;
pub mod gemv;
pub mod im2col;
mod pool;
mod resize;
mod stencil;

pub use resize::{Filter, planes, resize};
pub use stencil::Stencil;
