//! The section `explainer` of the TAME family: shape and initialisation of the head.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::range::map_side;

/// Shape and initialisation of the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct TameSection {
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

impl Default for TameSection {
    fn default() -> Self {
        Self { fuse_bias: true, fuse_init: FuseInit::Uniform, map_size: None }
    }
}

/// Shape and initialisation of a head on an auxiliary's feature maps, which are brought to the first tap's side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct PtameSection {
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
