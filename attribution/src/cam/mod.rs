//! Class activation maps: weighted sums of a layer's feature maps A_1..A_C.
//!
//! The methods differ in the weights. Notation: y is the target class's logit, x the normalised image. Maps have the
//! layer's resolution, `[B,1,h,w]` in 0..=1.

pub(crate) mod ablation_cam;
pub(crate) mod abs_cam;
pub(crate) mod fd_cam;
pub(crate) mod grad_cam;
pub(crate) mod grad_cam_pp;
pub(crate) mod layer_cam;
pub(crate) mod opti_cam;
pub(crate) mod score_cam;

pub use ablation_cam::AblationCam;
pub use abs_cam::AbsCam;
pub use fd_cam::FdCam;
pub use grad_cam::GradCam;
pub use grad_cam_pp::GradCamPlusPlus;
pub use layer_cam::LayerCam;
pub use opti_cam::OptiCam;
pub use score_cam::ScoreCam;
