//! Any explainer of this crate, and the shape of any.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::tame::SyncBatchNorm;
use super::{
    ClassSelection, ExplainerHead, ExplainerInput, MaskingModel, MaskingModelConfig, Method, TameConfig, TameHead,
};

/// Any explainer of this crate.
#[derive(Module, Debug)]
pub enum AnyHead {
    /// T-TAME, TAME, P-TAME and L-CAM: one family of attention heads.
    Tame(TameHead),
    /// The fast masking model.
    Masking(MaskingModel),
}

impl ExplainerHead for AnyHead {
    fn maps(&self, view: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4> {
        match self {
            Self::Tame(head) => head.maps(view, classes),
            Self::Masking(model) => model.maps(view, classes),
        }
    }

    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Tame(head) => head.postprocess(raw),
            Self::Masking(model) => model.postprocess(raw),
        }
    }
}

impl AnyHead {
    /// Its shape.
    pub fn config(&self) -> AnyHeadConfig {
        match self {
            Self::Tame(head) => AnyHeadConfig::Tame(head.config().clone()),
            Self::Masking(model) => AnyHeadConfig::Masking(model.config().clone()),
        }
    }

    /// Every tensor by PyTorch's name, in [`AnyHeadConfig::tensors`]' order: shape and values.
    pub fn values(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        match self {
            Self::Tame(head) => head.values(),
            Self::Masking(model) => model.values(),
        }
    }

    /// [`TameHead::with_zero_fuser`]; the masking model, which fuses nothing, as it is.
    #[must_use]
    pub fn with_zero_fuser(self) -> Self {
        match self {
            Self::Tame(head) => Self::Tame(head.with_zero_fuser()),
            Self::Masking(_) => self,
        }
    }

    /// The same with batch statistics over the whole batch that `sync` has a share of, where it normalises by batches.
    #[must_use]
    pub fn synchronised(self, sync: Option<&Arc<SyncBatchNorm>>) -> Self {
        match self {
            Self::Tame(head) => Self::Tame(head.synchronised(sync)),
            Self::Masking(_) => self,
        }
    }

    /// [`TameHead::running`]; none where nothing is normalised by batches.
    #[must_use]
    pub fn running(&self) -> Vec<f32> {
        match self {
            Self::Tame(head) => head.running(),
            Self::Masking(_) => Vec::new(),
        }
    }

    /// [`TameHead::set_running`].
    pub fn set_running(&self, values: &[f32]) {
        if let Self::Tame(head) = self {
            head.set_running(values);
        }
    }

    /// Whether it has a class selector that is trained by [`AnyHead::presence`].
    pub fn has_selector(&self) -> bool {
        matches!(self, Self::Masking(model) if model.selector.is_some())
    }

    /// [`MaskingModel::presence`]; zeros where there is no selector.
    pub fn presence(&self, top: Tensor<4>, class: Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::Tame(_) => Tensor::zeros([top.dims()[0]], &top.device()),
            Self::Masking(model) => model.presence(top, class),
        }
    }
}

impl From<TameHead> for AnyHead {
    fn from(head: TameHead) -> Self {
        Self::Tame(head)
    }
}

impl From<MaskingModel> for AnyHead {
    fn from(model: MaskingModel) -> Self {
        Self::Masking(model)
    }
}

/// The shape of any explainer of this crate, written as that of its family: only a masking model has `sides`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnyHeadConfig {
    /// Of an attention head.
    Tame(TameConfig),
    /// Of a masking model.
    Masking(MaskingModelConfig),
}

impl From<TameConfig> for AnyHeadConfig {
    fn from(config: TameConfig) -> Self {
        Self::Tame(config)
    }
}

impl From<MaskingModelConfig> for AnyHeadConfig {
    fn from(config: MaskingModelConfig) -> Self {
        Self::Masking(config)
    }
}

impl<'de> Deserialize<'de> for AnyHeadConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.get("sides") {
            Some(_) => serde_json::from_value(value).map(Self::Masking),
            None => serde_json::from_value(value).map(Self::Tame),
        }
        .map_err(D::Error::custom)
    }
}

impl AnyHeadConfig {
    /// A fresh explainer, its weights drawn from `seed`.
    pub fn explainer(&self, seed: u64, device: &Device) -> AnyHead {
        match self {
            Self::Tame(config) => TameHead::new(config.clone(), seed, device).into(),
            Self::Masking(config) => MaskingModel::new(config.clone(), seed, device).into(),
        }
    }

    /// An explainer whose tensors, in row-major order, are `values(name, shape)`.
    pub fn from_values(&self, values: impl Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> AnyHead {
        match self {
            Self::Tame(config) => TameHead::from_values(config.clone(), values, device).into(),
            Self::Masking(config) => MaskingModel::from_values(config.clone(), values, device).into(),
        }
    }

    /// Names and shapes of the tensors as PyTorch has them, running statistics included.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Tame(config) => config.tensors(),
            Self::Masking(config) => config.tensors(),
        }
    }

    /// Channels of each tap, in order.
    pub fn channels(&self) -> &[usize] {
        match self {
            Self::Tame(config) => &config.channels,
            Self::Masking(config) => &config.channels,
        }
    }

    /// Number of classes K.
    pub fn classes(&self) -> usize {
        match self {
            Self::Tame(config) => config.classes,
            Self::Masking(config) => config.classes,
        }
    }

    /// Side of the maps `[h,w]`.
    pub fn map_size(&self) -> [usize; 2] {
        match self {
            Self::Tame(config) => config.map_size,
            Self::Masking(config) => config.map_size(),
        }
    }

    /// Whether an explainer of this shape is one of `method`.
    pub fn is_of(&self, method: Method) -> bool {
        matches!(self, Self::Masking(_)) == (method == Method::MaskingModel)
    }
}
