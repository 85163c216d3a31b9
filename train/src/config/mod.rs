//! A run as one YAML file: typed, every key with a default or required, every range checked.
//!
//! [`Config::load`] reads the file and the command line's overrides, and refuses what it does not know with the line
//! and column. Defaults come from the T-TAME paper; the doc comment of a key is also its description in
//! `configs/schema.json`. Relative paths inside the file start at the working directory, not at the file.

mod check;
mod compare;
mod overrides;
mod precision;
mod preprocessing;
mod sections;
mod wording;

pub use compare::{Classifier, CompareConfig, Compared, Gallery, Source};
pub use explainer_zoo::explainer::ExplainerConfig;
pub use explainer_zoo::training::{Objective, Optimizer, Schedule, Selection};
pub use precision::Precision;
pub use preprocessing::{Interpolation, Preprocessing};
pub use sections::{Augment, Auxiliary, Backbone, Data, Distributed, Train};

use explainer_zoo::masking::Masking;
use explainer_zoo::range;
use garde::Validate;
use overrides::Override;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wording::Wording;

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
    /// The second frozen classifier, whose feature maps the explainer reads: needed with `ptame`, refused otherwise.
    #[garde(dive)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<Auxiliary>,
    /// The images.
    #[garde(dive)]
    pub data: Data,
    /// What the classifier sees where the map masks the image.
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
    /// How the learning rate moves over the run.
    #[garde(dive)]
    #[serde(default)]
    pub schedule: Schedule,
    /// Length, order and rhythm of the run.
    #[garde(dive)]
    #[serde(default)]
    pub train: Train,
    /// Training by several processes; plays no part with one.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "Distributed::is_default")]
    pub distributed: Distributed,
    /// Folder for checkpoints, metrics and the artifact; by default `checkpoints/` and the name of the YAML file.
    #[garde(skip)]
    #[serde(default)]
    pub output: Option<PathBuf>,
    /// Where to compute: `flex` (the CPU, always there), or a device compiled in, such as `cuda:0`.
    #[garde(custom(range::not_blank))]
    #[schemars(length(min = 1))]
    #[serde(default = "device")]
    pub device: String,
    /// What frozen classifiers compute in; a TorchScript's file decides for itself.
    #[garde(skip)]
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// CPU threads to compute with; all cores by default.
    #[garde(inner(custom(range::at_least_one)))]
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub threads: Option<usize>,
}

fn device() -> String {
    "flex".into()
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "{}: cannot read the configuration; give the path of a YAML file such as configs/quickstart.yaml",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The YAML is malformed, has an unknown key, a wrong type or a value out of range.
    #[error("{}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Line, column, what is wrong, and the lines around it.
        message: String,
    },
    /// A `key.path=value` of the command line does not fit.
    #[error("override `{text}`: {message}")]
    Override {
        /// The override as it was given.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// Keys that are sound one by one do not go together.
    #[error("{}: the configuration does not fit together:\n  {}", path.display(), problems.join("\n  "))]
    Unsound {
        /// The file.
        path: PathBuf,
        /// One message for each broken rule.
        problems: Vec<String>,
    },
}

impl Config {
    /// Reads a YAML file, applies `key.path=value` overrides in their order, and checks types, ranges and the rules
    /// across keys. `output` is filled in from the file's name where it is not given.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut config = Self::parse(&read(path)?, path, overrides)?;
        if config.output.is_none() {
            let stem = path.file_stem().unwrap_or("run".as_ref());
            config.output = Some(Path::new("checkpoints").join(stem));
        }
        Ok(config)
    }

    /// As [`Config::load`], from the text of a YAML file; `path` is for messages alone and `output` is left as it is.
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let config: Self = document(text, path, overrides)?;
        config.check(path)?;
        Ok(config)
    }

    /// The rules across keys, such as one tap for L-CAM; `path` is for the message. [`Config::load`] has checked them:
    /// this is for a configuration that was changed since.
    pub fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Unsound { path: path.to_owned(), problems }) }
    }

    /// The output folder: [`Config::load`] has filled it in; `checkpoints/run` for a configuration made otherwise.
    pub fn output_dir(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("checkpoints/run"))
    }

    /// The resolved configuration, every key written out; [`Config::parse`] gives the same configuration back.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(self)
    }

    /// JSON Schema of the YAML, for editors: completion, descriptions, ranges.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Config).to_value()
    }
}

/// The text of a YAML file.
fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// What a YAML file holds: types and ranges, without the rules across keys.
trait Document: DeserializeOwned + Validate<Context = ()> {}

impl<T: DeserializeOwned + Validate<Context = ()>> Document for T {}

/// A document with the overrides in their order.
fn document<T: Document>(text: &str, path: &Path, overrides: &[String]) -> Result<T, ConfigError> {
    if overrides.is_empty() { typed(text).map_err(|e| located(&e, path)) } else { overridden(text, path, overrides) }
}

/// A document without overrides.
fn typed<T: Document>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options_valid(text, options())
}

/// `y`, `no` and `on` are texts, as in YAML 1.2: a folder may be called so.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

/// The error with its line, column and the lines around it.
fn located(error: &serde_saphyr::Error, path: &Path) -> ConfigError {
    let name = path.display().to_string();
    let options = serde_saphyr::render_options! { formatter: &Wording, source_name: Some(name.as_str()) };
    let rendered = error.render_with_options(options);
    let message = rendered.strip_prefix("error: ").unwrap_or(&rendered).trim_end().to_owned();
    ConfigError::Yaml { path: path.to_owned(), message }
}

/// Applies the overrides to the parsed file before typing it.
///
/// An error that the file has without any override is shown in the file; otherwise the blame goes to the first override
/// with which that error appears.
fn overridden<T: Document>(text: &str, path: &Path, overrides: &[String]) -> Result<T, ConfigError> {
    let refused = |text: &String, message| ConfigError::Override { text: text.clone(), message };
    let mut tree: serde_json::Value =
        serde_saphyr::from_str_with_options(text, options()).map_err(|e| located(&e, path))?;
    let mut trees = Vec::new();
    for text in overrides {
        let applied = Override::parse(text).and_then(|one| one.apply(&mut tree));
        applied.map_err(|message| refused(text, message))?;
        trees.push(tree.clone());
    }
    let error = match retyped(&tree) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if let Err(own) = typed::<T>(text)
        && message(&own) == error
    {
        return Err(located(&own, path));
    }
    let culprit = trees.iter().position(|tree| retyped::<T>(tree).is_err_and(|e| e == error));
    let text = culprit.and_then(|i| overrides.get(i)).cloned().unwrap_or_else(|| overrides.join(" "));
    Err(refused(&text, error))
}

/// The document in a parsed tree, or what is wrong with it. By way of YAML text, so that a value means the same as in a
/// file: `output=1` is a path.
fn retyped<T: Document>(tree: &serde_json::Value) -> Result<T, String> {
    let text = serde_saphyr::to_string(tree).map_err(|e| e.to_string())?;
    typed(&text).map_err(|e| message(&e))
}

/// What is wrong, without the place.
fn message(error: &serde_saphyr::Error) -> String {
    serde_saphyr::MessageFormatter::format_message(&Wording, error).into_owned()
}

#[cfg(test)]
mod tests;
