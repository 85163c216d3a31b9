//! The sections of a run's YAML other than `explainer`, `optimizer` and `schedule`.

use super::preprocessing::Preprocessing;
use explainer_zoo::range::{at_least_one, fraction, hex_digest, image_count, not_blank, passes, side, thread_count};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// The frozen classifier to explain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Architecture, by its registered name: `vgg16`, `resnet50`, `vit_b_16`, ...; or `torchscript`, any classifier as
    /// a TorchScript file, run by LibTorch (Cargo feature `tch`).
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Location of the trained weights or the TorchScript: a file (`.safetensors`, `.pth`, `.pt`),
    /// `hf://owner/name[@revision][/file]`, an `https://` address, `embedded` (the classifier of the procedural images,
    /// `shapes_resnet`), or `random` (for timing only: such maps mean nothing).
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, 64 hexadecimal digits. Without it an `https://` file is checked against the digits in
    /// its name, as torchvision's files have them.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Layers whose feature maps the explainer reads, by module path, the largest map first; by default those of the
    /// backbone. `explainer-train inspect --backbone NAME` lists them. Not for `ptame`, which has `auxiliary.taps`.
    #[garde(length(min = 1), inner(inner(custom(not_blank))))]
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub taps: Option<Vec<String>>,
    /// Text file with the name of one class in each line, in the classifier's order. The names of ImageNet-1k are built in.
    #[garde(skip)]
    #[serde(default)]
    pub classes: Option<PathBuf>,
    /// Preprocessing of a TorchScript; by default as `export_torchscript.py` wrote into the file. Every other backbone has
    /// its own, whose sizes `data.resize` and `data.crop` change.
    #[garde(dive)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
}

/// The second frozen classifier, whose feature maps the explainer reads. Its classes may differ from the backbone's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Auxiliary {
    /// Architecture, by its registered name: `resnet18`, `mobilenet_v3_small`, `tf_efficientnet_lite0`, ...
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Location of its trained weights, in the forms of `backbone.weights`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, as `backbone.sha256`.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Layers whose feature maps the explainer reads, by module path, the largest map first. The side of each map must be
    /// that of the first, or a half, a quarter, ... of it. By default those of the architecture.
    #[garde(length(min = 1), inner(inner(custom(not_blank))))]
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub taps: Option<Vec<String>>,
}

/// The images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
#[schemars(transform = train_or_shards)]
pub struct Data {
    /// Training images: a folder (flat, or one sub-folder for each class), a list file (`path[,class]` in each line), tar
    /// shards of WebDataset (`train-{0000..1281}.tar`; `shards` is another name of this key), or `shapes` for the built-in
    /// procedural images. A relative path starts at the working directory.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    #[serde(alias = "shards")]
    pub train: String,
    /// Validation images, in the same forms.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub val: String,
    /// Number of procedural images (required for `shapes`), or the largest number of files to use: the first after a seeded
    /// shuffle. All files by default.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub train_images: Option<usize>,
    /// As `train_images`, for validation.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub val_images: Option<usize>,
    /// Short side after resizing, in pixels; by default that of the backbone's preprocessing.
    #[garde(inner(custom(side)))]
    #[schemars(range(min = 8, max = 4096))]
    #[serde(default)]
    pub resize: Option<usize>,
    /// Side of the square crop, the backbone's input, in pixels; by default that of the backbone's preprocessing.
    #[garde(inner(custom(side)))]
    #[schemars(range(min = 8, max = 4096))]
    #[serde(default)]
    pub crop: Option<usize>,
    /// Augmentation of the training images; `[]` for none (resize and centre crop, as in validation).
    #[garde(skip)]
    #[serde(default = "Augment::all")]
    pub augment: Vec<Augment>,
    /// Cache the classifier's logits and feature maps of each training image, in half precision, in the output folder during
    /// the run. Epochs after the first save a forward pass. Requires `augment: []`.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache: bool,
    /// Fraction of the images that may be broken, 0 to 1. Broken images are skipped with a warning; more of them end the run.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "max_broken")]
    pub max_broken: f64,
    /// Number of threads that read and decode images ahead of the training step.
    #[garde(custom(thread_count))]
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default = "workers")]
    pub workers: usize,
}

/// Describes both names of the key in the schema, of which exactly one is required.
fn train_or_shards(schema: &mut schemars::Schema) {
    let Some(train) = schema.pointer("/properties/train").cloned() else { return };
    if let Some(properties) = schema.pointer_mut("/properties").and_then(serde_json::Value::as_object_mut) {
        properties.insert("shards".into(), train);
    }
    if let Some(required) = schema.pointer_mut("/required").and_then(serde_json::Value::as_array_mut) {
        required.retain(|key| key != "train");
    }
    schema.insert("oneOf".into(), json!([{"required": ["train"]}, {"required": ["shards"]}]));
}

impl Data {
    /// The value of `train` and `val` for the built-in procedural images.
    pub const SHAPES: &'static str = "shapes";
}

fn max_broken() -> f64 {
    0.01
}

fn workers() -> usize {
    2
}

/// An augmentation of training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Augment {
    /// Crop at a random position in place of the centre.
    RandomCrop,
    /// Horizontal flip with probability 1/2.
    Flip,
}

impl Augment {
    /// The augmentations of all papers of the TAME family.
    fn all() -> Vec<Self> {
        vec![Self::RandomCrop, Self::Flip]
    }
}

/// Epochs, batches, seed, checkpoints and validations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Number of epochs: passes over the training images.
    #[garde(custom(passes))]
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Batch size of a step. With batch selection the loss of an image includes the maps of the other images' classes, and
    /// BatchNorm uses the statistics of the batch: 1 works, but trains a noisier head than the papers' 32.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Seed of the initial head, the order of the images, crops and flips. The same seed on the same device gives the same
    /// head.
    #[garde(skip)]
    pub seed: u64,
    /// Steps between two checkpoints.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub checkpoint_every: usize,
    /// Steps between two validations (AD/IC on `data.val`); 0: at the end of each epoch.
    #[garde(skip)]
    pub validate_every: usize,
    /// Number of images of each validation; all by default.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub validate_images: Option<usize>,
    /// Number of the latest checkpoints that are kept, in addition to the best one.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub keep: usize,
    /// Steps between two lines of `metrics.jsonl`.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub log_every: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 8,
            batch_size: 32,
            seed: 0,
            checkpoint_every: 1000,
            validate_every: 5000,
            validate_images: None,
            keep: 2,
            log_every: 10,
        }
    }
}

/// Data parallelism over several processes. `train.batch_size` is the global batch size, which the processes share equally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Distributed {
    /// Whether BatchNorm uses the statistics of the global batch, so that the head is the same as with a single process.
    /// Otherwise each process uses those of its local batch, and the running statistics are averaged: fewer messages, another
    /// head.
    pub sync_batch_norm: bool,
    /// Whether each process reads tar shards of its own, assigned at random in each epoch, if there are at least as many
    /// shards as processes. An epoch then skips or repeats a few images, and its batches differ from those of one process.
    /// Otherwise each process reads its part of the batches that one process would read, from all shards.
    pub split_shards: bool,
    /// Whether the all-reduce of the gradients overlaps with the next batch's loading and forward pass without mask, which do
    /// not need the head: the same numbers in less time, for the memory of one more forward pass.
    pub overlap: bool,
}

impl Default for Distributed {
    fn default() -> Self {
        Self { sync_batch_norm: true, split_shards: true, overlap: false }
    }
}

impl Distributed {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
