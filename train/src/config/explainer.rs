//! The section `explainer`: which method, and the shape and initialisation of its head.

use super::bee::Bee;
use super::masking_model::MaskingModel;
use super::range::map_side;
use super::tagged::tagged;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

tagged! {
    /// The learned explainer to train.
    pub enum ExplainerConfig by "method" (Method) {
        /// T-TAME: one attention branch for each of three taps, their maps upsampled (bilinear) to the largest tap's
        /// side, at most 56, and fused with a bias into one map a class. For CNNs and transformers.
        "ttame" => Ttame(Head),
        /// TAME, T-TAME's ancestor: the same head, for CNNs.
        "tame" => Tame(Head),
        /// P-TAME: T-TAME's head on the feature maps of a second, auxiliary classifier (section `auxiliary`), brought
        /// to the first tap's side by doubling. Of the classifier that is explained it needs logits and, in training,
        /// their gradient with respect to the image.
        "ptame" => Ptame(AuxiliaryHead),
        /// L-CAM-Img: one tap, a 1x1 convolution to one map a class, sigmoid; the map multiplies the image.
        "lcam_img" => LcamImg(Head),
        /// L-CAM-Fm: as L-CAM-Img, but the map multiplies the tapped feature map; `masking` plays no part.
        "lcam_fm" => LcamFm(Head),
        /// BEE: path integrals from random baselines, whose distribution is learned for each metric. `masking`,
        /// `objective`, `optimizer` and `schedule` play no part: a bandit learns from every image.
        "bee" => Bee(Bee),
        /// Fast masking model: a class selector and a U-Net decoder over the backbone's feature maps at several scales,
        /// each half the side of the one before. It has a loss and two phases of its own: `masking`, `objective`,
        /// `optimizer`, `schedule`, `train.epochs` and `train.batch_size` (but for validation) play no part.
        "masking_model" => MaskingModel(MaskingModel),
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
    pub fn bee(&self) -> Option<&Bee> {
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

/// Shape and initialisation of the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// Whether the convolution that gives the class maps has a bias.
    #[garde(skip)]
    pub fuse_bias: bool,
    /// How the convolution that gives the class maps is initialised; by default `uniform`.
    #[garde(skip)]
    #[serde(skip_serializing_if = "FuseInit::is_default")]
    pub fuse_init: FuseInit,
    /// Side of the maps, in cells; by default the side of the largest tap, at most 56.
    #[garde(inner(custom(map_side)))]
    #[schemars(range(min = 1, max = 1024))]
    pub map_size: Option<usize>,
}

impl Default for Head {
    fn default() -> Self {
        Self { fuse_bias: true, fuse_init: FuseInit::Uniform, map_size: None }
    }
}

/// Shape and initialisation of a head on an auxiliary's feature maps, which are brought to the first tap's side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct AuxiliaryHead {
    /// Whether the convolution that gives the class maps has a bias. P-TAME: no.
    #[garde(skip)]
    pub fuse_bias: bool,
    /// How the convolution that gives the class maps is initialised; by default `uniform`.
    #[garde(skip)]
    #[serde(skip_serializing_if = "FuseInit::is_default")]
    pub fuse_init: FuseInit,
}

/// How the convolution that gives the class maps is initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FuseInit {
    /// As PyTorch starts a convolution: uniform in +-1/sqrt(channels of all taps), from `train.seed`.
    #[default]
    Uniform,
    /// With zeros: every map is flat until it has learned something. For short runs, whose maps would otherwise still show
    /// the numbers they began with. The map of a class that no training image is predicted as stays blank.
    Zero,
}

impl FuseInit {
    /// Whether it is the default, which is not written, so that checkpoints without this key are of the same run.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
