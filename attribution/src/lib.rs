#![doc = include_str!("../README.md")]

mod adam;
mod cam;
mod context;
mod error;
mod gradient;
mod layer;
mod method;
mod method_explainer;
mod perturbation;
mod registry;
mod tensors;
mod transformer;
mod trivial;

pub use cam::{AblationCam, AbsCam, FdCam, GradCam, GradCamPlusPlus, LayerCam, OptiCam, ScoreCam};
pub use context::MethodContext;
pub use error::AttributionError;
pub use gradient::{Iia, IntegratedGradients, SmoothGrad};
pub use layer::Layer;
pub use method::{Access, Attribution, AttributionMethod, Family, MethodInfo};
pub use method_explainer::MethodExplainer;
pub use perturbation::{ExtremalPerturbation, Masks, MeaningfulPerturbation, Rise, Sidu};
pub use registry::{MethodSpec, methods, names, table};
pub use transformer::{Daam, Patches, Rollout, TransformerAttribution, VitCx};
pub use trivial::{CentreGaussian, Edges, RandomMap, UniformMap};

#[cfg(test)]
mod tests;
