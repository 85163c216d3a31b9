//! A training run as one YAML file.

use super::precision::Precision;
use super::sections::{Auxiliary, Backbone, Data, Distributed, Train};
use explainer_zoo::explainer::ExplainerConfig;
use explainer_zoo::masking::Masking;
use explainer_zoo::range::{not_blank, thread_count};
use explainer_zoo::training::{Objective, Optimizer, RunSettings, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A training run of explainer-train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The learned explainer to train.
    #[garde(dive)]
    pub explainer: ExplainerConfig,
    /// The frozen classifier to explain.
    #[garde(dive)]
    pub backbone: Backbone,
    /// The second frozen classifier, whose feature maps the explainer reads: required for `ptame`, refused otherwise.
    #[garde(dive)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<Auxiliary>,
    /// The images.
    #[garde(dive)]
    pub data: Data,
    /// Replacement of the masked pixels.
    #[garde(skip)]
    #[serde(default)]
    pub masking: Masking,
    /// Weights of the loss's terms.
    #[garde(dive)]
    #[serde(default)]
    pub objective: Objective,
    /// The optimizer of the head.
    #[garde(dive)]
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The schedule of the learning rate.
    #[garde(dive)]
    #[serde(default)]
    pub schedule: Schedule,
    /// Epochs, batches, seed, checkpoints and validations.
    #[garde(dive)]
    #[serde(default)]
    pub train: Train,
    /// Data parallelism over several processes; ignored with one process.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "Distributed::is_default")]
    pub distributed: Distributed,
    /// Folder for checkpoints, metrics and the artifact; by default `checkpoints/` and the name of the YAML file.
    #[garde(skip)]
    #[serde(default)]
    pub output: Option<PathBuf>,
    /// Device: `flex` (the CPU), `cuda:0`, `wgpu` or `tch`, if the program is built with it.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    #[serde(default = "device")]
    pub device: String,
    /// Floating-point format of the frozen classifiers; a TorchScript file has its own.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Number of CPU threads; all cores by default.
    #[garde(inner(custom(thread_count)))]
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default)]
    pub threads: Option<usize>,
}

/// The device of a file that names none.
pub(super) fn device() -> String {
    "flex".into()
}

impl Config {
    /// The sections that all explainers share.
    pub fn run_settings(&self) -> RunSettings<'_> {
        RunSettings {
            masking: self.masking,
            objective: &self.objective,
            optimizer: &self.optimizer,
            schedule: &self.schedule,
            batch_size: self.train.batch_size,
            epochs: self.train.epochs,
            seed: self.train.seed,
        }
    }
}
