//! Learned explainers: networks that turn what a backbone sees into one heat map a class.
//!
//! A new one is a folder here and a line in the `match`es of [`AnyHead`] and [`AnyHeadConfig`].

mod any;
pub mod bee;
pub mod masking;
mod method;
mod registry;
pub mod tame;

use burn::module::Module;
use burn::tensor::{Int, Tensor};

pub use any::{AnyHead, AnyHeadConfig};
pub use masking::{MaskingModel, MaskingModelConfig};
pub use method::Method;
pub use registry::ExplainerConfig;
pub use tame::{TameConfig, TameHead, Upsampling, WrongScale};

/// What an explainer may look at.
#[derive(Clone, Debug)]
pub struct ExplainerInput<'a> {
    /// Normalised images `[B,3,H,W]`.
    pub images: &'a Tensor<4>,
    /// The tapped feature maps after their adapters, `[B,C_i,H_i,W_i]`, in the explainer's order.
    pub features: &'a [Tensor<4>],
}

/// The classes to draw maps for. Asking for few is what makes training and explaining cheap: the fusion is computed for
/// the classes asked for alone.
#[derive(Clone, Debug)]
pub enum ClassSelection {
    /// Every class, in order.
    All,
    /// These class indices `[k]`, in this order, repeated where repeated.
    Of(Tensor<1, Int>),
    /// One class index for each image `[B]`: one map an image, k = 1.
    Each(Tensor<1, Int>),
}

/// A network that explains a classifier.
pub trait ExplainerHead: Module {
    /// Raw maps `[B,k,h,w]`, unbounded: training passes them through a sigmoid, inference through
    /// [`ExplainerHead::postprocess`].
    fn maps(&self, view: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4>;

    /// Raw maps `[B,k,h,w]` as inference shows them: 0..1, same shape.
    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4>;
}
