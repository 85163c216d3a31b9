//! Learned explainers: networks that turn the features of a frozen backbone into one heat map a class.
//!
//! Each is a folder: the YAML section ([`LearnedExplainer`]), the shape of its head ([`HeadConfig`]), the network
//! ([`ExplainerHead`]) and the training step ([`crate::training::TrainingTask`]). Outside its folder it has an entry in
//! `registry.rs`.

pub mod bee;
pub(crate) mod learned;
pub mod masking;
mod registry;
pub mod tame;

pub use crate::head::{ClassSelection, ExplainerHead, ExplainerInput, HeadConfig, ShapeError, SizeError};
pub use learned::{HeadOf, LearnedExplainer, MethodRequirements, MethodSection, RunKeys};
pub use masking::{MaskingModel, MaskingModelConfig};
pub use registry::{AnyExplainer, AnyHead, AnyHeadConfig, ExplainerConfig, HeadTypeMismatch, Method};
pub use tame::{TameConfig, TameHead, Upsampling, WrongScale};
