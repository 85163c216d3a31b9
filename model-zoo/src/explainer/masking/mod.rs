//! The fast masking model (Dabkowski and Gal, "Real Time Image Saliency for Black Box Classifiers", 2017): a U-Net
//! decoder over a frozen encoder's feature maps that draws the mask of one class.
//!
//! The encoder is the explained classifier itself, by its taps: F_1 .. F_s, each with half the side of the one before.
//! The *class selector* holds an embedding E_t for each class: the score of class t at a cell is <F_s, E_t>, and
//! sigmoid(score - confidence) multiplies the cell's features, so that the decoder sees what belongs to the class. The
//! mean score over all cells says whether the image shows the class at all; the selector is trained by it alone. s - 1
//! stages then climb back, one tap each, to the mask at the first tap's resolution, a quarter of the image's side where
//! the first tap has stride 4.
//!
//! A mask costs one pass of the decoder for each (image, class), but much of it depends on the image alone: the
//! encoder's part of every reduction, and the first stage's convolution, with which the gate, one number a cell,
//! commutes. Both are computed once an image; the rest is computed for a few masks at a time.

mod artifact;
mod config;
mod infill;
mod layers;
mod loss;
mod model;
mod section;
mod targets;
mod task;
#[cfg(test)]
mod tests;

pub use config::{Activation, MaskingModelConfig, ScaleError, Upsampling};
pub use infill::{Infill, Infilled};
pub use layers::{Bottleneck, Convolution, Stage};
pub use loss::{MaskLoss, MaskRegulariser, MaskedSide, PaperLoss, ReleasedLoss, presence_loss};
pub use model::{MaskingModel, Selector};
pub use section::{DecoderPhase, MaskingModelSection, PhaseSettings, Phases, SelectorPhase};
pub use targets::{fake_targets, shifted};
pub use task::{DecoderTask, SelectorTask};
