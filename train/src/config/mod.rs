//! A run and a comparison as YAML files: typed, every key with a default or required, every range checked.
//!
//! [`Config::load`] reads the file and the command line's overrides, and refuses what it does not know with the line
//! and column. Defaults are those of the T-TAME paper. The doc comment of a key is also its description in
//! `configs/schema.json`. Relative paths inside the file start at the working directory, not at the file.

mod check;
mod compare;
mod document;
mod error;
mod load;
mod overrides;
mod precision;
mod preprocessing;
pub mod presets;
mod run;
mod sections;
mod wording;
mod yaml;

pub use compare::{Classifier, CompareConfig, ExplainerEntry, Gallery, Source};
pub use error::ConfigError;
pub use explainer_zoo::explainer::ExplainerConfig;
pub use explainer_zoo::training::{Objective, Optimizer, Schedule, Selection};
pub use precision::Precision;
pub use preprocessing::{Interpolation, Preprocessing};
pub use run::Config;
pub use sections::{Augment, Auxiliary, Backbone, Data, Distributed, Train};

#[cfg(test)]
mod tests;
