//! Heads: the trained networks of learned explainers, and their shapes.

use std::fmt::Debug;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Serialize, de::DeserializeOwned};

use crate::backbone::TapSpec;
use crate::sync_batch_norm::SyncBatchNorm;

/// Most parameters of a head (1 GiB of f32). The published ones have 0.2 to 12 million.
pub const MAX_PARAMETERS: u128 = 1 << 28;
/// Longest side of maps and images, in cells and pixels.
pub const MAX_SIDE: usize = 16_384;

/// The input of a head.
#[derive(Clone, Debug)]
pub struct ExplainerInput<'a> {
    /// Normalised images `[B,3,H,W]`.
    pub images: &'a Tensor<4>,
    /// The feature maps of the taps after their adapters, `[B,C_i,h_i,w_i]` each, in the head's order.
    pub features: &'a [Tensor<4>],
}

/// The classes to draw maps for. A head computes the maps of these classes alone: few classes make training and explaining
/// cheap.
#[derive(Clone, Debug)]
pub enum ClassSelection {
    /// Every class, in order.
    All,
    /// These class indices `[k]`, in this order, for every image.
    Of(Tensor<1, Int>),
    /// One class index for each image `[B]`: one map an image, k = 1.
    Each(Tensor<1, Int>),
}

/// A network that explains a classifier.
pub trait ExplainerHead: Module {
    /// Raw maps `[B,k,h,w]`, unbounded: training passes them through a sigmoid, inference through
    /// [`ExplainerHead::postprocess`].
    fn maps(&self, input: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4>;

    /// Raw maps `[B,k,h,w]` as heat maps in 0..=1, same shape.
    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4>;

    /// The same head with batch statistics over the whole batch, of which every process has a share; with `None` over its own
    /// share alone. A head without batch normalisation, or trained by one process only, is returned as it is.
    #[must_use]
    fn synchronised(self, _sync: Option<&Arc<SyncBatchNorm>>) -> Self {
        self
    }

    /// The running statistics of its batch normalisations, flat; empty without any.
    fn running(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Sets the running statistics to `values`, in the order of [`ExplainerHead::running`].
    fn set_running(&self, _values: &[f32]) {}
}

/// The shape of a head, as `head` in an artifact's `config.json`.
pub trait HeadConfig: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// The network.
    type Head: ExplainerHead;

    /// A key that is always written and that no other family's shape has: the family is recognised by it.
    const KEY: &'static str;

    /// The limits of the maps, as items of the model card's list.
    const LIMITS: &'static str;

    /// Channels of each tap, in order.
    fn channels(&self) -> &[usize];

    /// Number of classes K.
    fn classes(&self) -> usize;

    /// Side of the maps `[h,w]`, in cells.
    fn map_size(&self) -> [usize; 2];

    /// Names and shapes of the tensors as PyTorch has them, running statistics included.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// A head with random weights from `seed`.
    fn init(&self, seed: u64, device: &Device) -> Self::Head;

    /// A head whose tensors, in row-major order, are `values(name, shape)`.
    fn with_values(&self, values: &dyn Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> Self::Head;

    /// The shape of a head.
    fn of(head: &Self::Head) -> &Self;

    /// Name, shape and values of every tensor of a head, in the order of [`HeadConfig::tensors`].
    fn values_of(head: &Self::Head) -> Vec<(String, Vec<usize>, Vec<f32>)>;

    /// Checks the sizes of a shape that was read from a file, before anything is allocated.
    ///
    /// # Errors
    /// [`SizeError`] for the first value that is wrong.
    fn check(&self) -> Result<(), SizeError>;

    /// Checks that the taps of an auxiliary classifier fit, for images of `side` pixels.
    ///
    /// # Errors
    /// Why they do not.
    fn check_taps(&self, _taps: &[TapSpec], _side: usize) -> Result<(), ShapeError> {
        Ok(())
    }

    /// How PyTorch uses a head of this shape, whose tensors `load_file({file})` reads.
    fn pytorch(&self, file: &str) -> PyTorchUse;
}

/// A section of the model card: how PyTorch uses a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PyTorchUse {
    /// What the code needs besides `features`, to be read after that word.
    pub given: &'static str,
    /// The module's source.
    pub module: &'static str,
    /// Lines that load the tensors and compute maps.
    pub code: String,
}

/// A value of a head's shape that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, expected {expected}")]
pub struct SizeError {
    /// The key in `config.json`, such as `head.channels`.
    pub key: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

/// Why no head fits the taps.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ShapeError(Box<dyn std::error::Error + Send + Sync>);

impl ShapeError {
    /// An error of the family's own.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// A Python literal of a flag.
pub(crate) fn python_flag(on: bool) -> &'static str {
    if on { "True" } else { "False" }
}

/// A Python list of numbers, without its brackets.
pub(crate) fn python_list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
