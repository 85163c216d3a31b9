//! Every explainer of this crate: a head's family is a line of `heads!`, a method is an entry of `methods!`.

use std::fmt;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::bee::BeeSection;
use super::learned::{HeadOf, LearnedExplainer, MethodRequirements, MethodSection, RunKeys};
use super::masking::{MaskingModel, MaskingModelConfig, MaskingModelSection};
use super::tame::{LcamFm, LcamImg, PtameSection, Tame, TameConfig, TameHead, Ttame};
use crate::backbone::{BackboneSpec, TapSpec};
use crate::head::{ClassSelection, ExplainerHead, ExplainerInput, HeadConfig, PyTorchUse, ShapeError, SizeError};
use crate::sync_batch_norm::SyncBatchNorm;
use crate::tagged;
use crate::training::{PhaseSpec, RunSettings};

/// Declares [`AnyHead`] and [`AnyHeadConfig`] over the families of heads.
macro_rules! heads {
    ($($(#[doc = $doc:literal])* $family:ident($head:ident, $config:ident),)+) => {
        /// Any head of this crate.
        #[derive(Module, Debug)]
        pub enum AnyHead {
            $($(#[doc = $doc])* $family($head),)+
        }

        impl ExplainerHead for AnyHead {
            fn maps(&self, input: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4> {
                match self { $(Self::$family(head) => head.maps(input, classes),)+ }
            }

            fn postprocess(&self, raw: Tensor<4>) -> Tensor<4> {
                match self { $(Self::$family(head) => head.postprocess(raw),)+ }
            }

            fn synchronised(self, sync: Option<&Arc<SyncBatchNorm>>) -> Self {
                match self { $(Self::$family(head) => Self::$family(head.synchronised(sync)),)+ }
            }

            fn running(&self) -> Vec<f32> {
                match self { $(Self::$family(head) => head.running(),)+ }
            }

            fn set_running(&self, values: &[f32]) {
                match self { $(Self::$family(head) => head.set_running(values),)+ }
            }
        }

        impl AnyHead {
            /// Its shape.
            pub fn config(&self) -> AnyHeadConfig {
                match self { $(Self::$family(head) => AnyHeadConfig::$family($config::of(head).clone()),)+ }
            }

            /// Name, shape and values of every tensor, in the order of [`AnyHeadConfig::tensors`].
            pub fn values(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
                match self { $(Self::$family(head) => $config::values_of(head),)+ }
            }
        }

        /// The shape of any head of this crate, written as the shape of its family. The families are told apart by
        /// [`HeadConfig::KEY`].
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum AnyHeadConfig {
            $($(#[doc = $doc])* $family($config),)+
        }

        impl<'de> Deserialize<'de> for AnyHeadConfig {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = Value::deserialize(deserializer)?;
                $(if value.get($config::KEY).is_some() {
                    return serde_json::from_value(value).map(Self::$family).map_err(D::Error::custom);
                })+
                let keys = [$($config::KEY),+].join("`, `");
                Err(D::Error::custom(format_args!("the head has none of the keys `{keys}`: it is of no known family")))
            }
        }

        impl AnyHeadConfig {
            /// A head with random weights from `seed`.
            pub fn init(&self, seed: u64, device: &Device) -> AnyHead {
                match self { $(Self::$family(config) => config.init(seed, device).into(),)+ }
            }

            /// A head whose tensors, in row-major order, are `values(name, shape)`.
            pub fn from_values(&self, values: impl Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> AnyHead {
                match self { $(Self::$family(config) => config.with_values(&values, device).into(),)+ }
            }

            /// Names and shapes of the tensors as PyTorch has them, running statistics included.
            pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
                match self { $(Self::$family(config) => HeadConfig::tensors(config),)+ }
            }

            /// Channels of each tap, in order.
            pub fn channels(&self) -> &[usize] {
                match self { $(Self::$family(config) => HeadConfig::channels(config),)+ }
            }

            /// Number of classes K.
            pub fn classes(&self) -> usize {
                match self { $(Self::$family(config) => HeadConfig::classes(config),)+ }
            }

            /// Side of the maps `[h,w]`, in cells.
            pub fn map_size(&self) -> [usize; 2] {
                match self { $(Self::$family(config) => HeadConfig::map_size(config),)+ }
            }

            /// As [`HeadConfig::check`].
            ///
            /// # Errors
            /// [`SizeError`]
            pub fn check(&self) -> Result<(), SizeError> {
                match self { $(Self::$family(config) => HeadConfig::check(config),)+ }
            }

            /// As [`HeadConfig::check_taps`].
            ///
            /// # Errors
            /// [`ShapeError`]
            pub fn check_taps(&self, taps: &[TapSpec], side: usize) -> Result<(), ShapeError> {
                match self { $(Self::$family(config) => config.check_taps(taps, side),)+ }
            }

            /// As [`HeadConfig::pytorch`].
            pub fn pytorch(&self, file: &str) -> PyTorchUse {
                match self { $(Self::$family(config) => config.pytorch(file),)+ }
            }

            /// As [`HeadConfig::LIMITS`].
            pub fn limits(&self) -> &'static str {
                match self { $(Self::$family(_) => $config::LIMITS,)+ }
            }
        }

        $(
            impl From<$head> for AnyHead {
                fn from(head: $head) -> Self {
                    Self::$family(head)
                }
            }

            impl<'a> TryFrom<&'a AnyHead> for &'a $head {
                type Error = HeadTypeMismatch;

                #[allow(unreachable_patterns, reason = "there may be one family only")]
                fn try_from(head: &'a AnyHead) -> Result<Self, HeadTypeMismatch> {
                    match head { AnyHead::$family(head) => Ok(head), _ => Err(HeadTypeMismatch) }
                }
            }

            impl From<$config> for AnyHeadConfig {
                fn from(config: $config) -> Self {
                    Self::$family(config)
                }
            }

            impl<'a> TryFrom<&'a AnyHeadConfig> for &'a $config {
                type Error = HeadTypeMismatch;

                #[allow(unreachable_patterns, reason = "there may be one family only")]
                fn try_from(config: &'a AnyHeadConfig) -> Result<Self, HeadTypeMismatch> {
                    match config { AnyHeadConfig::$family(config) => Ok(config), _ => Err(HeadTypeMismatch) }
                }
            }
        )+
    };
}

/// Declares [`ExplainerConfig`] and [`Method`] over the methods: name, section, and whether it trains a head.
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $text:literal => $method:ident($section:ident) $kind:ident,)+) => {
        tagged! {
            /// The learned explainer to train.
            #[schemars(rename = "Explainer")]
            pub enum ExplainerConfig by "method" (MethodTag) {
                $($(#[doc = $doc])* $text => $method($section),)+
            }
        }

        impl ExplainerConfig {
            /// The method.
            pub fn method(&self) -> Method {
                match self { $(Self::$method(_) => Method::$method,)+ }
            }

            /// As [`MethodSection::problems`].
            pub fn problems(&self, keys: &RunKeys<'_>) -> Vec<String> {
                match self { $(Self::$method(section) => section.problems(keys),)+ }
            }

            /// As [`MethodSection::notes`].
            pub fn notes(&self) -> Vec<String> {
                match self { $(Self::$method(section) => section.notes(),)+ }
            }

            /// The method as one that trains a head; `None` if it trains none (BEE).
            pub fn learned(&self) -> Option<&dyn AnyExplainer> {
                match self { $(Self::$method(section) => methods!(@learned $kind section),)+ }
            }
        }

        /// A method by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Method {
            $($(#[doc = $doc])* #[serde(rename = $text)] $method,)+
        }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Self] = &[$(Self::$method),+];

            /// The name in configurations and artifacts.
            pub fn name(self) -> &'static str {
                match self { $(Self::$method => $text,)+ }
            }

            /// The name in the paper.
            pub fn title(self) -> &'static str {
                match self { $(Self::$method => $section::TITLE,)+ }
            }

            /// See [`MethodRequirements`].
            pub fn requirements(self) -> MethodRequirements {
                match self { $(Self::$method => $section::REQUIREMENTS,)+ }
            }

            /// Whether a head of this shape is one of the method's.
            pub fn has_head(self, config: &AnyHeadConfig) -> bool {
                match self { $(Self::$method => methods!(@head $kind $section config),)+ }
            }
        }
    };
    (@learned head $section:ident) => { Some($section as &dyn AnyExplainer) };
    (@learned no_head $section:ident) => {{ let _ = $section; None }};
    (@head head $section:ident $config:ident) => {
        <&<$section as LearnedExplainer>::Config>::try_from($config).is_ok()
    };
    (@head no_head $section:ident $config:ident) => {{ let _ = $config; false }};
}

heads! {
    /// T-TAME, TAME, P-TAME and L-CAM: one family of attention heads.
    Tame(TameHead, TameConfig),
    /// The fast masking model.
    Masking(MaskingModel, MaskingModelConfig),
}

methods! {
    /// T-TAME: one attention branch for each of three taps, their maps upsampled (bilinear) to the largest tap's
    /// side, at most 56, and fused with a bias into one map a class. For CNNs and transformers.
    "ttame" => Ttame(Ttame) head,
    /// TAME, T-TAME's ancestor: the same head, for CNNs.
    "tame" => Tame(Tame) head,
    /// P-TAME: T-TAME's head on the feature maps of a second, auxiliary classifier (section `auxiliary`), brought
    /// to the first tap's side by doubling. Of the classifier that is explained it needs logits and, in training,
    /// their gradient with respect to the image.
    "ptame" => Ptame(PtameSection) head,
    /// L-CAM-Img: one tap, a 1x1 convolution to one map a class, sigmoid; the map multiplies the image.
    "lcam_img" => LcamImg(LcamImg) head,
    /// L-CAM-Fm: as L-CAM-Img, but the map multiplies the tapped feature map; `masking` plays no part.
    "lcam_fm" => LcamFm(LcamFm) head,
    /// BEE: path integrals from random baselines, whose distribution is learned for each metric. `masking`,
    /// `objective`, `optimizer` and `schedule` play no part: a bandit learns from every image.
    "bee" => Bee(BeeSection) no_head,
    /// Fast masking model: a class selector and a U-Net decoder over the backbone's feature maps at several scales,
    /// each half the side of the one before. It has a loss and two phases of its own: `masking`, `objective`,
    /// `optimizer`, `schedule`, `train.epochs` and `train.batch_size` (but for validation) play no part.
    "masking_model" => MaskingModel(MaskingModelSection) head,
}

impl ExplainerConfig {
    /// The section of BEE, which learns by a bandit in a run of its own; `None` for any other method.
    pub fn bee(&self) -> Option<&BeeSection> {
        match self {
            Self::Bee(section) => Some(section),
            _ => None,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A head or a shape of another family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head is of another family")]
pub struct HeadTypeMismatch;

/// A [`LearnedExplainer`] of any family.
pub trait AnyExplainer {
    /// As [`LearnedExplainer::default_taps`].
    fn default_taps(&self, backbone: &BackboneSpec) -> Vec<String>;

    /// As [`LearnedExplainer::shape`].
    ///
    /// # Errors
    /// [`ShapeError`]
    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<AnyHeadConfig, ShapeError>;

    /// As [`LearnedExplainer::head`].
    fn head(&self, shape: &AnyHeadConfig, seed: u64, device: &Device) -> AnyHead;

    /// As [`LearnedExplainer::phases`].
    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<AnyHead>>;

    /// As [`LearnedExplainer::masking`].
    fn masking(&self, run: &RunSettings<'_>) -> &'static str;
}

impl<E: LearnedExplainer> AnyExplainer for E
where
    E::Config: Into<AnyHeadConfig>,
    HeadOf<E>: Into<AnyHead> + 'static,
    for<'a> &'a E::Config: TryFrom<&'a AnyHeadConfig>,
    for<'a> &'a HeadOf<E>: TryFrom<&'a AnyHead>,
{
    fn default_taps(&self, backbone: &BackboneSpec) -> Vec<String> {
        LearnedExplainer::default_taps(self, backbone)
    }

    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<AnyHeadConfig, ShapeError> {
        LearnedExplainer::shape(self, taps, classes, side).map(Into::into)
    }

    fn head(&self, shape: &AnyHeadConfig, seed: u64, device: &Device) -> AnyHead {
        match <&E::Config>::try_from(shape) {
            Ok(own) => LearnedExplainer::head(self, own, seed, device).into(),
            Err(_) => shape.init(seed, device),
        }
    }

    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<AnyHead>> {
        LearnedExplainer::phases(self, run).into_iter().map(PhaseSpec::erase).collect()
    }

    fn masking(&self, run: &RunSettings<'_>) -> &'static str {
        LearnedExplainer::masking(self, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_written() {
        for method in Method::ALL {
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
    }
}
