//! The TAME family of attention heads: TAME (Ntrougkas et al., 2022), T-TAME (2024), P-TAME (2025) and, as its
//! one-tap ancestor, L-CAM (Gkartzonika et al., 2022).
//!
//! Per tap i: a_i = ReLU(F_i + BN_i(Conv1x1_i(F_i))); all a_i are resized to one size, concatenated, and fused by a 1x1
//! convolution into one raw map a class. That convolution commutes with bilinear upsampling and is linear in the
//! concatenation, so it is computed tap by tap at the tap's own resolution, for the requested classes alone, and only
//! class maps are resized: the same numbers for a fraction of the work.

mod artifact;
mod config;
mod head;
mod norm;
mod section;
mod task;
mod upsampling;

pub use config::{MAX_SIDE, TameConfig};
pub use head::{Pointwise, TameHead};
pub use norm::BatchNorm;
pub use section::{FuseInit, LcamFm, LcamImg, PtameSection, Tame, TameSection, Ttame};
pub use task::{MaskTarget, MaskedInputTask};
pub use upsampling::{Upsampling, WrongScale};
