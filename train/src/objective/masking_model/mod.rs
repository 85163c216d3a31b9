//! What the fast masking model is trained for (Dabkowski and Gal, 2017): the decoder's loss, what the classifier sees
//! in the place of what a mask leaves out, and the wrong classes that keep the model honest.
//!
//! Labels are not used: the target of an image is the class that the classifier predicts for it, since that is what is
//! explained. The paper trains on labels; of a good classifier's training images the two are mostly the same.

mod infill;
mod loss;
mod targets;

pub use infill::Infilled;
pub use loss::{MaskRegulariser, Part, presence_loss};
pub use targets::{fake_targets, shifted};
