//! The TAME family's methods, each by its section `explainer`: shape and initialisation of the head, and the only phase
//! of its training.

use std::borrow::Cow;

use burn::tensor::Device;
use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::config::TameConfig;
use super::head::TameHead;
use super::task::{MaskTarget, MaskedInputTask};
use super::upsampling::Upsampling;
use crate::backbone::{TapSpec, architecture};
use crate::explainer::learned::{LearnedExplainer, MethodRequirements, MethodSection, RunKeys};
use crate::head::{HeadConfig, ShapeError};
use crate::range::map_side;
use crate::training::{PhaseSpec, RunSettings};

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
    /// A head of this shape.
    fn head(self, shape: &TameConfig, seed: u64, device: &Device) -> TameHead {
        let head = shape.init(seed, device);
        match self {
            Self::Uniform => head,
            Self::Zero => head.with_zero_fuser(),
        }
    }

    /// Whether it is the default, which is not written, so that checkpoints without this key are of the same run.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TameSection {
    fn shape(&self, branches: bool, taps: &[TapSpec], classes: usize, side: usize) -> TameConfig {
        let default = TameConfig::ttame(taps, classes, side);
        let map_size = self.map_size.map_or(default.map_size, |side| [side; 2]);
        TameConfig { branches, fuse_bias: self.fuse_bias, map_size, ..default }
    }
}

/// The phase of a head that masks the image.
fn image_phase(run: &RunSettings<'_>) -> Vec<PhaseSpec<TameHead>> {
    vec![run.phase(MaskedInputTask { masked: MaskTarget::Image(run.masking), objective: run.objective.clone() })]
}

/// Declares a method whose section is a [`TameSection`].
macro_rules! method {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
        #[serde(transparent)]
        #[garde(transparent)]
        pub struct $name(#[garde(dive)] pub TameSection);

        // Not derived: the schema has the section's keys in place, and the registry's description.
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                TameSection::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                TameSection::json_schema(generator)
            }
        }
    };
}

/// Declares a [`method!`] whose map masks the image.
macro_rules! image_method {
    ($(#[$doc:meta])* $name:ident, $title:literal, branches: $branches:literal, $limits:expr) => {
        method! {
            $(#[$doc])*
            $name
        }

        impl MethodSection for $name {
            const TITLE: &'static str = $title;
            const REQUIREMENTS: MethodRequirements = $limits;
        }

        impl LearnedExplainer for $name {
            type Config = TameConfig;

            fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<TameConfig, ShapeError> {
                Ok(self.0.shape($branches, taps, classes, side))
            }

            fn head(&self, shape: &TameConfig, seed: u64, device: &Device) -> TameHead {
                self.0.fuse_init.head(shape, seed, device)
            }

            fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<TameHead>> {
                image_phase(run)
            }
        }
    };
}

image_method! {
    /// T-TAME (Ntrougkas et al., 2024): three taps with attention branches, CNNs and transformers.
    Ttame, "T-TAME", branches: true, MethodRequirements::NONE
}

image_method! {
    /// TAME (Ntrougkas et al., 2022): the same head for CNNs.
    Tame, "TAME", branches: true, MethodRequirements::NONE
}

image_method! {
    /// L-CAM-Img (Gkartzonika et al., 2022): one tap, no branch; the map masks the image.
    LcamImg, "L-CAM-Img", branches: false, MethodRequirements { one_tap: true, ..MethodRequirements::NONE }
}

method! {
    /// L-CAM-Fm (Gkartzonika et al., 2022): one tap, no branch; the map masks the tapped feature map.
    LcamFm
}

impl MethodSection for LcamFm {
    const TITLE: &'static str = "L-CAM-Fm";
    const REQUIREMENTS: MethodRequirements = MethodRequirements {
        one_tap: true,
        replaces_taps: true,
        caches: false,
        ignored: &[("masking", "lcam_fm multiplies the feature map, not the image")],
        ..MethodRequirements::NONE
    };

    fn problems(&self, _: &RunKeys<'_>) -> Vec<String> {
        let found = self.0.map_size.map(|_| {
            "explainer.map_size: the map of lcam_fm has the size of the tapped feature map; remove the key".into()
        });
        found.into_iter().collect()
    }
}

impl LearnedExplainer for LcamFm {
    type Config = TameConfig;

    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<TameConfig, ShapeError> {
        Ok(self.0.shape(false, taps, classes, side))
    }

    fn head(&self, shape: &TameConfig, seed: u64, device: &Device) -> TameHead {
        self.0.fuse_init.head(shape, seed, device)
    }

    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<TameHead>> {
        vec![run.phase(MaskedInputTask { masked: MaskTarget::Feature, objective: run.objective.clone() })]
    }

    fn masking(&self, _: &RunSettings<'_>) -> &'static str {
        "feature"
    }
}

/// P-TAME (Ntrougkas et al., 2025): the head on the feature maps of an auxiliary classifier.
impl MethodSection for PtameSection {
    const TITLE: &'static str = "P-TAME";
    const REQUIREMENTS: MethodRequirements = MethodRequirements { auxiliary: true, ..MethodRequirements::NONE };

    fn problems(&self, keys: &RunKeys<'_>) -> Vec<String> {
        let Some((name, names)) = keys.auxiliary else { return Vec::new() };
        let Some(auxiliary) = architecture(name) else { return Vec::new() };
        let own = || Some(architecture(keys.backbone)?.preprocessing.crop);
        let Some(side) = keys.crop.or_else(own) else { return Vec::new() };
        let default = auxiliary.auxiliary_taps.unwrap_or(auxiliary.default_taps);
        let names: Vec<&str> = names.map_or_else(|| default.to_vec(), |taps| taps.iter().map(String::as_str).collect());
        let tap = |name: &&str| auxiliary.taps.iter().find(|tap| tap.name == *name).cloned();
        let taps: Vec<TapSpec> = names.iter().filter_map(tap).collect();
        if taps.len() < names.len() {
            return Vec::new();
        }
        Upsampling::Doubling
            .check(&taps, side)
            .err()
            .map(|error| format!("auxiliary.taps: {error}"))
            .into_iter()
            .collect()
    }
}

impl LearnedExplainer for PtameSection {
    type Config = TameConfig;

    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<TameConfig, ShapeError> {
        let shape = TameConfig::ptame(taps, classes, side).map_err(ShapeError::new)?;
        Ok(TameConfig { fuse_bias: self.fuse_bias, ..shape })
    }

    fn head(&self, shape: &TameConfig, seed: u64, device: &Device) -> TameHead {
        self.fuse_init.head(shape, seed, device)
    }

    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<TameHead>> {
        image_phase(run)
    }
}
