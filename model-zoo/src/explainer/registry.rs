//! Every explainer of this crate by name.

use super::bee::BeeSection;
use super::masking::MaskingModelSection;
use super::tame::{FuseInit, PtameSection, TameSection};
use crate::tagged;

tagged! {
    /// The learned explainer to train.
    #[schemars(rename = "Explainer")]
    pub enum ExplainerConfig by "method" (MethodTag) {
        /// T-TAME: one attention branch for each of three taps, their maps upsampled (bilinear) to the largest tap's
        /// side, at most 56, and fused with a bias into one map a class. For CNNs and transformers.
        "ttame" => Ttame(TameSection),
        /// TAME, T-TAME's ancestor: the same head, for CNNs.
        "tame" => Tame(TameSection),
        /// P-TAME: T-TAME's head on the feature maps of a second, auxiliary classifier (section `auxiliary`), brought
        /// to the first tap's side by doubling. Of the classifier that is explained it needs logits and, in training,
        /// their gradient with respect to the image.
        "ptame" => Ptame(PtameSection),
        /// L-CAM-Img: one tap, a 1x1 convolution to one map a class, sigmoid; the map multiplies the image.
        "lcam_img" => LcamImg(TameSection),
        /// L-CAM-Fm: as L-CAM-Img, but the map multiplies the tapped feature map; `masking` plays no part.
        "lcam_fm" => LcamFm(TameSection),
        /// BEE: path integrals from random baselines, whose distribution is learned for each metric. `masking`,
        /// `objective`, `optimizer` and `schedule` play no part: a bandit learns from every image.
        "bee" => Bee(BeeSection),
        /// Fast masking model: a class selector and a U-Net decoder over the backbone's feature maps at several scales,
        /// each half the side of the one before. It has a loss and two phases of its own: `masking`, `objective`,
        /// `optimizer`, `schedule`, `train.epochs` and `train.batch_size` (but for validation) play no part.
        "masking_model" => MaskingModel(MaskingModelSection),
    }
}

impl ExplainerConfig {
    /// The method's name as the YAML writes it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Ttame(_) => "ttame",
            Self::Tame(_) => "tame",
            Self::Ptame(_) => "ptame",
            Self::LcamImg(_) => "lcam_img",
            Self::LcamFm(_) => "lcam_fm",
            Self::Bee(_) => "bee",
            Self::MaskingModel(_) => "masking_model",
        }
    }

    /// Whether the convolution that gives the class maps has a bias.
    pub fn fuse_bias(&self) -> bool {
        match self {
            Self::Ttame(head) | Self::Tame(head) | Self::LcamImg(head) | Self::LcamFm(head) => head.fuse_bias,
            Self::Ptame(head) => head.fuse_bias,
            Self::Bee(_) | Self::MaskingModel(_) => false,
        }
    }

    /// How the convolution that gives the class maps is initialised.
    pub fn fuse_init(&self) -> FuseInit {
        match self {
            Self::Ttame(head) | Self::Tame(head) | Self::LcamImg(head) | Self::LcamFm(head) => head.fuse_init,
            Self::Ptame(head) => head.fuse_init,
            Self::Bee(_) | Self::MaskingModel(_) => FuseInit::Uniform,
        }
    }

    /// Side of the maps, in cells, where it does not follow from the taps.
    pub fn map_size(&self) -> Option<usize> {
        match self {
            Self::Ttame(head) | Self::Tame(head) | Self::LcamImg(head) | Self::LcamFm(head) => head.map_size,
            Self::Ptame(_) | Self::Bee(_) | Self::MaskingModel(_) => None,
        }
    }

    /// BEE's section, if that is the method.
    pub fn bee(&self) -> Option<&BeeSection> {
        match self {
            Self::Bee(bee) => Some(bee),
            _ => None,
        }
    }

    /// Whether the method reads the feature maps of an auxiliary classifier.
    pub fn has_auxiliary(&self) -> bool {
        matches!(self, Self::Ptame(_))
    }

    /// Whether the method is one of L-CAM's two: exactly one tap.
    pub fn is_lcam(&self) -> bool {
        matches!(self, Self::LcamImg(_) | Self::LcamFm(_))
    }
}
