//! The weights of frozen backbones: their sources ([`source`]) and their tensors, checked by name and shape
//! ([`reader`]).

mod error;
pub mod hash;
pub mod random;
pub mod reader;
pub mod source;
mod store;

pub use error::WeightsError;
pub use reader::WeightReader;
pub use store::Generator;
