//! The sections of a run's YAML other than `explainer`, `optimizer` and `schedule`.

use super::preprocessing::Preprocessing;
use explainer_zoo::range::{at_least_one, fraction, hex_digest, image_count, not_blank, passes, side};
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
    /// Where the trained weights are, or the TorchScript: a file (`.safetensors`, `.pth`, `.pt`),
    /// `hf://owner/name[@revision][/file]`, an `https://` address, `embedded` (the classifier of the procedural images,
    /// `shapes_resnet`), or `random` (for timing only: explaining it means nothing).
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, 64 hexadecimal digits. Without it an `https://` file is checked against the eight
    /// digits in its name, as torchvision's have.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Layers whose feature maps the explainer reads, by module path, the largest map first; by default the backbone's
    /// own choice. `explainer-train inspect --backbone NAME` lists them. None with `ptame`, which has an `auxiliary`.
    #[garde(length(min = 1), inner(inner(custom(not_blank))))]
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub taps: Option<Vec<String>>,
    /// Text file with the name of one class a line, in the classifier's order. ImageNet-1k's names are built in.
    #[garde(skip)]
    #[serde(default)]
    pub classes: Option<PathBuf>,
    /// How a TorchScript wants its images; by default what `export_torchscript.py` wrote into the file. Every other
    /// backbone has its own, of which `data.resize` and `data.crop` change the sizes.
    #[garde(dive)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
}

/// The second frozen classifier, whose feature maps the explainer reads. Its classes need not be the explained one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Auxiliary {
    /// Architecture, by its registered name: `resnet18`, `mobilenet_v3_small`, `tf_efficientnet_lite0`, ...
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where its trained weights are, in the forms of `backbone.weights`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, as `backbone.sha256`.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Layers whose feature maps the explainer reads, by module path, the largest map first: each must have its side or
    /// a half, a quarter, ... of it. By default the architecture's own choice.
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
    /// Training images: a folder (flat, or one sub-folder a class), a list file (`path[,class]` a line), tar files as
    /// WebDataset has them (`train-{0000..1281}.tar`; `shards` is another name of this key), or the word `shapes` for the
    /// built-in procedural images. A relative path starts at the working directory.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    #[serde(alias = "shards")]
    pub train: String,
    /// Validation images, in the same forms.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub val: String,
    /// How many procedural images to make (needed for `shapes`), or at most how many of the files to use: the first n
    /// after a seeded shuffle. All files by default.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub train_images: Option<usize>,
    /// As `train_images`, for validation.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub val_images: Option<usize>,
    /// Short side after resizing, in pixels; by default as the backbone's preprocessing says.
    #[garde(inner(custom(side)))]
    #[schemars(range(min = 8, max = 4096))]
    #[serde(default)]
    pub resize: Option<usize>,
    /// Side of the square crop that the backbone sees, in pixels; by default as the backbone's preprocessing says.
    #[garde(inner(custom(side)))]
    #[schemars(range(min = 8, max = 4096))]
    #[serde(default)]
    pub crop: Option<usize>,
    /// Random changes of training images; `[]` for none (resize and centre crop, as in validation).
    #[garde(skip)]
    #[serde(default = "Augment::all")]
    pub augment: Vec<Augment>,
    /// Keeps the classifier's answer to each training image and its feature maps, in half precision, in the output folder
    /// while the run lasts, so that epochs behind the first save a forward pass. Needs `augment: []`.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache: bool,
    /// Fraction of images that may be unreadable before the run stops; fewer are skipped with a warning.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "max_broken")]
    pub max_broken: f64,
    /// Threads that read and decode images ahead of the training step.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    #[serde(default = "workers")]
    pub workers: usize,
}

/// Tells an editor of the key's other name, one of which is there.
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
    /// The word in place of a path that stands for the built-in procedural images.
    pub const SHAPES: &'static str = "shapes";
}

fn max_broken() -> f64 {
    0.01
}

fn workers() -> usize {
    2
}

/// A random change of a training image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Augment {
    /// Crop at a random place instead of the centre.
    RandomCrop,
    /// Mirror left and right with probability 1/2.
    Flip,
}

impl Augment {
    /// What all TAME-family papers do.
    fn all() -> Vec<Self> {
        vec![Self::RandomCrop, Self::Flip]
    }
}

/// Length, order and rhythm of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Passes over the training images.
    #[garde(custom(passes))]
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Images a step. With batch selection each image is also pushed away from the other images' classes, and BatchNorm
    /// takes its statistics over the batch, so that 1 works but trains a noisier head than the papers' 32.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Seed of everything random: initial head, order of the images, crops and flips. The same seed on the same device
    /// gives the same head.
    #[garde(skip)]
    pub seed: u64,
    /// Steps between two checkpoints.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub checkpoint_every: usize,
    /// Steps between two validations (AD/IC on `data.val`); 0: at the end of each epoch.
    #[garde(skip)]
    pub validate_every: usize,
    /// How many of the validation images every validation looks at; all by default.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub validate_images: Option<usize>,
    /// How many of the latest checkpoints are kept; the best one is kept besides.
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

/// How several processes train one head. `train.batch_size` is the whole batch's, of which each has an equal share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Distributed {
    /// Whether BatchNorm takes its statistics over the whole batch, so that the head is the one that a single process would
    /// train. Without, each process takes those of its own share, and the running statistics are averaged: fewer messages,
    /// another head.
    pub sync_batch_norm: bool,
    /// Whether each process reads tar files of its own, drawn anew in each epoch, if there are at least as many of them as
    /// processes. An epoch leaves out a few images more than with one process, or repeats some, and its batches are others.
    /// Without, each reads its part of the very batches that one process would read, from all files.
    pub split_shards: bool,
    /// Whether gradients are summed while the next batch is fetched and sent through the classifier unmasked, which does not
    /// need the head: the same numbers, sooner, for the memory of one more clean pass.
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
