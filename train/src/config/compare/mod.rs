//! A comparison of explainers as one YAML file.

mod check;

use explainer_zoo::explainer::bee::BaselineDistribution;
use explainer_zoo::range::{at_least_one, fraction, hex_digest, image_count, not_blank, thread_count};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A comparison of explainer-train: explainers by metrics on one set of images, all of the same classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// The frozen classifier that is explained; by default that of the first learned explainer.
    #[garde(dive)]
    #[serde(default)]
    pub backbone: Option<Classifier>,
    /// The images: a folder, a list file with `path[,class]` in each line, tar shards, or `shapes[:N]`: N procedural scenes
    /// (256 by default). A relative path starts at the working directory.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub images: String,
    /// Number of images, spread evenly over the set; all by default. With a larger number a finished comparison continues.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// The metrics: `ad@50`, `insertion`, ...; `explainer-train evaluate --help` lists them.
    #[garde(length(min = 1), inner(custom(not_blank)))]
    #[schemars(length(min = 1))]
    pub metrics: Vec<String>,
    /// The explainers to compare, two or more.
    #[garde(dive)]
    pub explainers: Vec<ExplainerEntry>,
    /// Name of the reference, with which the others are compared image by image; the first explainer by default.
    #[garde(inner(custom(not_blank)))]
    #[serde(default)]
    pub reference: Option<String>,
    /// Images that the report shows with the map of every explainer.
    #[garde(dive)]
    #[serde(default)]
    pub gallery: Gallery,
    /// Annotations of the objects on the images: a CSV, COCO or VOC file, or a folder of VOC files. Not needed for `shapes`.
    #[garde(skip)]
    #[serde(default)]
    pub objects: Option<PathBuf>,
    /// Fixations of people on the images: a CSV file (`image,x,y`).
    #[garde(skip)]
    #[serde(default)]
    pub fixations: Option<PathBuf>,
    /// Batch size, of whole or perturbed images. The results do not depend on it, the time does.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Seed of the methods that use random numbers.
    #[garde(skip)]
    #[serde(default)]
    pub seed: u64,
    /// Fraction of the images that may be broken, 0 to 1. Broken images are skipped, counted and named.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "max_broken")]
    pub max_broken: f64,
    /// Folder for the report and its data; by default `checkpoints/` and the name of the YAML file.
    #[garde(skip)]
    #[serde(default)]
    pub output: Option<PathBuf>,
    /// Device: `flex` (the CPU), `cuda:0`, `wgpu` or `tch`, if the program is built with it.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    #[serde(default = "super::run::device")]
    pub device: String,
    /// Number of CPU threads; all cores by default.
    #[garde(inner(custom(thread_count)))]
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default)]
    pub threads: Option<usize>,
}

fn batch_size() -> usize {
    32
}

fn max_broken() -> f64 {
    0.1
}

/// The frozen classifier that is explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Architecture, by its registered name: `vgg16`, `resnet50`, `vit_b_16`, ...
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Location of the trained weights, in the forms of a run's `backbone.weights`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, 64 hexadecimal digits.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Text file with the name of one class in each line, in the classifier's order; by default the names in the first
    /// artifact, or those of ImageNet-1k for 1000 classes.
    #[garde(skip)]
    #[serde(default)]
    pub classes: Option<PathBuf>,
}

/// One explainer of a comparison, by exactly one of `artifact`, `train` and `method`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainerEntry {
    /// A trained explainer: the folder `artifact/` in a run's output.
    #[garde(skip)]
    pub artifact: Option<PathBuf>,
    /// A trained explainer, by the YAML file of its run. A run without an artifact is started or continued first.
    #[garde(skip)]
    pub train: Option<PathBuf>,
    /// A method without training: `grad-cam`, `rise@1000`, ...; `explainer-train evaluate --help` lists them.
    #[garde(inner(custom(not_blank)))]
    pub method: Option<String>,
    /// Name in the report; by default the method, or the name of the run.
    #[garde(inner(custom(not_blank)))]
    pub name: Option<String>,
    /// Number of images for this explainer, spread evenly over the set: for methods with many passes. It is compared with
    /// others on their common images.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub images: Option<usize>,
    /// The weights of its second classifier (the auxiliary of P-TAME, the context of BEE), if they have moved since the
    /// training.
    #[garde(inner(custom(not_blank)))]
    pub auxiliary_weights: Option<String>,
    /// BEE: the metric of its maps, such as `INS`; required if it was trained for several.
    #[garde(inner(custom(not_blank)))]
    pub metric: Option<String>,
    /// BEE: number of maps drawn for an explanation; by default that of the artifact.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub draws: Option<usize>,
    /// BEE: draw all baselines from this family in place of the learned mixture, as an ablation.
    #[garde(inner(custom(baseline_family)))]
    #[schemars(regex(pattern = "^(normal|uniform|blur|constant|train-data)$"))]
    pub family: Option<String>,
}

fn baseline_family(name: &str, _: &()) -> Result<(), garde::Error> {
    name.parse::<BaselineDistribution>().map(drop).map_err(garde::Error::new)
}

/// The source of an explainer of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A trained explainer's folder.
    Artifact(&'a Path),
    /// The YAML file of its run.
    Train(&'a Path),
    /// A method without training.
    Method(&'a str),
}

impl ExplainerEntry {
    /// Its source; `None` unless exactly one is given.
    #[must_use]
    pub fn source(&self) -> Option<Source<'_>> {
        match (&self.artifact, &self.train, &self.method) {
            (Some(folder), None, None) => Some(Source::Artifact(folder)),
            (None, Some(file), None) => Some(Source::Train(file)),
            (None, None, Some(method)) => Some(Source::Method(method)),
            _ => None,
        }
    }

    /// Its name in the report.
    #[must_use]
    pub fn name(&self) -> String {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        match (&self.name, self.source()) {
            (Some(name), _) => name.clone(),
            (None, Some(Source::Artifact(folder))) => match folder.parent() {
                Some(run) if folder.ends_with("artifact") && run.file_name().is_some() => part(run.file_name()),
                _ => part(folder.file_name()),
            },
            (None, Some(Source::Train(file))) => part(file.file_stem()),
            (None, Some(Source::Method(method))) => method.to_owned(),
            (None, None) => "explainer".into(),
        }
    }
}

/// Images that the report shows with the map of every explainer, the worst of the reference first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Gallery {
    /// Number of images; 0 for none.
    #[garde(skip)]
    pub images: usize,
    /// The metric that ranks the images; the first metric by default.
    #[garde(inner(custom(not_blank)))]
    pub metric: Option<String>,
}

impl Default for Gallery {
    fn default() -> Self {
        Self { images: 12, metric: None }
    }
}

impl CompareConfig {
    /// The name of the reference.
    #[must_use]
    pub fn reference(&self) -> String {
        let first = || self.explainers.first().map(ExplainerEntry::name).unwrap_or_default();
        self.reference.clone().unwrap_or_else(first)
    }
}

#[cfg(test)]
mod tests;
