//! Complexity: is the map concentrated on few pixels?

mod entropy;
mod sparsity;

pub(crate) use entropy::Entropy;
pub(crate) use sparsity::Sparsity;
