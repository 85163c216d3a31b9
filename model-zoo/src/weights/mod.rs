//! The weights of frozen backbones: where they come from ([`source`]) and how a network is built from them, every
//! tensor checked by name and shape ([`reader`]).

pub mod hash;
pub mod random;
pub mod reader;
pub mod source;

pub use reader::{WeightReader, WeightsError};
