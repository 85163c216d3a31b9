//! One interface for whatever explains a classifier: learned heads, BEE and methods without training.

use std::fmt::Debug;

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use crate::image::Preprocessing;

/// B images to explain.
#[derive(Clone, Debug)]
pub struct ExplainBatch {
    /// Pixels in 0..=1, cropped as the classifier's preprocessing has it, `[B,3,H,W]`.
    pub pixels: Tensor<4>,
    /// The same, normalised for the explained classifier.
    pub images: Tensor<4>,
}

impl ExplainBatch {
    /// Pixels `[B,3,H,W]` in 0..=1.
    pub fn from_pixels(pixels: Tensor<4>, preprocessing: &Preprocessing) -> Self {
        Self { images: preprocessing.normalise(pixels.clone()), pixels }
    }

    /// Images `[B,3,H,W]` that are normalised already.
    pub fn from_normalised(images: Tensor<4>, preprocessing: &Preprocessing) -> Self {
        Self { pixels: preprocessing.unnormalise(images.clone()), images }
    }
}

/// The classes to explain. Every image gets the same number of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets<'a> {
    /// The most probable ones of each image, this many (or all, if there are fewer), best first; of equals the lower
    /// index first.
    Top(usize),
    /// This one, for every image.
    Class(usize),
    /// These of each image, equally many an image.
    Each(&'a [Vec<usize>]),
}

impl Targets<'_> {
    /// The classes of each image whose probabilities `rows` are.
    #[must_use]
    pub fn resolve<'r>(self, rows: impl Iterator<Item = &'r [f32]>) -> Vec<Vec<usize>> {
        match self {
            Self::Each(classes) => classes.to_vec(),
            Self::Class(class) => rows.map(|_| vec![class]).collect(),
            Self::Top(count) => rows.map(|row| top(row, count)).collect(),
        }
    }
}

/// The `count` largest of `probabilities`, best first; of equals the lower index first.
fn top(probabilities: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order.truncate(count);
    order
}

/// Maps of k classes of each of B images.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The explained classes, `B` times `k`.
    pub classes: Vec<Vec<usize>>,
    /// Their probabilities in 0..=1, in the same order.
    pub probabilities: Vec<Vec<f32>>,
    /// Heat maps `[B,k,h,w]` in 0..=1.
    pub maps: Tensor<4>,
    /// What the explanations cost, counted while they were made.
    pub cost: Cost,
}

/// Softmax probabilities of logits `[B,K]`, row by row.
#[must_use]
pub fn probabilities(logits: Tensor<2>) -> Vec<f32> {
    softmax(logits, 1).into_data().iter::<f32>().collect()
}

/// What explanations cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Forward passes of the classifier.
    pub forward: u64,
    /// Its backward passes.
    pub backward: u64,
    /// Forward passes of a second classifier (P-TAME's auxiliary, BEE's context).
    pub second: u64,
    /// Seconds that the explanations took.
    pub seconds: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.backward += other.backward;
        self.second += other.second;
        self.seconds += other.seconds;
    }
}

/// Something that explains a classifier: a learned head, BEE, or a method without training.
pub trait Explain: Debug + Send + Sync {
    /// What to call it in tables and messages.
    fn name(&self) -> String;

    /// Heat maps of the `targets` of each image, and what they cost. The cost is counted, not declared.
    ///
    /// # Errors
    /// [`ExplainError`] for a class that the classifier does not have, for a classifier that could not compute, and for
    /// images that the method cannot explain.
    fn explain(&self, batch: &ExplainBatch, targets: Targets<'_>) -> Result<Explained, ExplainError>;
}

/// Why images cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A class index beyond the classifier's classes.
    #[error("there is no class {class}; the classifier has {classes}, 0 to {last}", last = classes.saturating_sub(1))]
    NoClass {
        /// What was asked for.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The classifier could not compute.
    #[error(transparent)]
    Backbone(#[from] crate::backbone::BackboneError),
    /// The method has a reason of its own.
    #[error(transparent)]
    Method(#[from] Box<dyn std::error::Error + Send + Sync>),
}
