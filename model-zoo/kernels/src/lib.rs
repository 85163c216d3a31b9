//! The inner loops of frozen classifiers and of their images on a CPU: slices of numbers in, slices of numbers out, nothing
//! of tensors, files or networks.
//!
//! They are a crate of their own because they alone must be compiled as one unit at the highest level: what a compiler makes
//! of such a loop depends on what it may inline (docs/src/benchmarks/performance.md, "Building").

pub mod batch_norm;
pub mod columns;
pub mod elements;
mod pool;
mod resize;
pub mod rows;
mod stencil;

pub use resize::{Filter, planes, resize};
pub use stencil::Stencil;
