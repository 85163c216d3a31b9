//! Methods that explain one image at a time without training, to compare learned explainers with, and the path integral
//! that BEE's maps are made of.
//!
//! Every method is an [`AttributionMethod`]: normalised images and a class each to maps in 0..1, at whatever resolution the
//! method has, through a [`Backbone`]. A [`MethodSpec`] is one by name. Passes through the backbone are counted as they
//! are made, by [`CountedBackbone`], never declared.
//!
//! A new method is a file here, its line in `registry.rs`, and a test.

mod ablation_cam;
mod abs_cam;
mod adam;
mod daam;
mod error;
mod extremal;
mod fd_cam;
mod grad_cam;
mod grad_cam_pp;
mod iia;
mod integrated_gradients;
mod layer;
mod layer_cam;
mod mask_resize;
mod meaningful;
mod opti_cam;
mod registry;
mod relevance;
mod rise;
mod rollout;
mod score_cam;
mod sidu;
mod smooth_grad;
mod tensors;
mod tokens;
mod trivial;
mod vit_cx;

use std::fmt::Debug;

use burn::tensor::Tensor;
use explainer_zoo::backbone::{CountedBackbone, Passes};

pub use ablation_cam::AblationCam;
pub use abs_cam::AbsCam;
pub use daam::Daam;
pub use error::AttributionError;
pub use extremal::ExtremalPerturbation;
pub use fd_cam::FdCam;
pub use grad_cam::GradCam;
pub use grad_cam_pp::GradCamPlusPlus;
pub use iia::Iia;
pub use integrated_gradients::IntegratedGradients;
pub use layer::Layer;
pub use layer_cam::LayerCam;
pub use meaningful::MeaningfulPerturbation;
pub use opti_cam::OptiCam;
pub use registry::{MethodSpec, Setup, names};
pub use relevance::TransformerAttribution;
pub use rise::{Masks, Rise};
pub use rollout::Rollout;
pub use score_cam::ScoreCam;
pub use sidu::Sidu;
pub use smooth_grad::SmoothGrad;
pub use tokens::Patches;
pub use trivial::{CentreGaussian, Edges, RandomMap, UniformMap};
pub use vit_cx::VitCx;

use explainer_zoo::backbone::Backbone;

/// A method that explains an image by looking at what a classifier makes of it, without training.
pub trait AttributionMethod: Debug + Send + Sync {
    /// Normalised images `[B,3,H,W]` and the class of each to explain, below K, to maps `[B,1,h,w]` in 0..1, larger where
    /// an image speaks for its class. Nothing of a map depends on the other images of the batch.
    ///
    /// [`AttributionMethod::explain`] is what to call: it checks the classes first, and counts.
    ///
    /// # Errors
    /// [`AttributionError`] where the backbone does not have what the method looks at.
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError>;

    /// The maps, and the passes that they took.
    ///
    /// # Errors
    /// As [`AttributionMethod::maps`]; [`AttributionError::Classes`] for a class too many or too few, [`AttributionError::Class`]
    /// for one that the backbone has not.
    fn explain(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Attribution, AttributionError> {
        let ([batch, ..], count) = (images.dims(), backbone.spec().classes);
        if classes.len() != batch {
            return Err(AttributionError::Classes { found: classes.len(), expected: batch });
        }
        if let Some(class) = classes.iter().find(|class| **class >= count) {
            return Err(AttributionError::Class { class: *class, classes: count });
        }
        let counted = CountedBackbone::new(backbone);
        let maps = self.maps(&counted, images, classes)?;
        Ok(Attribution { maps, passes: counted.passes() })
    }
}

/// What an [`AttributionMethod`] has found.
#[derive(Clone, Debug)]
pub struct Attribution {
    /// `[B,1,h,w]` in 0..1.
    pub maps: Tensor<4>,
    /// For all images of the batch together.
    pub passes: Passes,
}

#[cfg(test)]
mod tests;
