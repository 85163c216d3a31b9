//! Reads and checks the two kinds of YAML file: a run and a comparison.

use super::compare::CompareConfig;
use super::document::document;
use super::error::ConfigError;
use super::run::Config;
use super::{presets, yaml};
use std::path::{Path, PathBuf};

impl Config {
    /// Reads a YAML file, or the built-in settings of that name where there is no such file ([`presets`]), applies
    /// `key.path=value` overrides in their order, and checks types, ranges and the rules across keys. `output` is filled in
    /// from the file's name where it is not given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = presets::read(path)?;
        if CompareConfig::is_comparison(&text) {
            let command = format!("compare --config {}", path.display());
            let (found, expected) = ("a comparison", "a training run");
            return Err(ConfigError::WrongKind { path: path.to_owned(), found, expected, command });
        }
        let mut config = Self::parse(&text, path, overrides)?;
        config.output.get_or_insert_with(|| output_of(path, "run"));
        Ok(config)
    }

    /// As [`Config::load`], from the text of a YAML file; `path` is for messages alone and `output` is left as it is.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let config: Self = document(text, path, overrides)?;
        config.check(path)?;
        Ok(config)
    }

    /// Checks the rules across keys, such as one tap for L-CAM; `path` is for the message. [`Config::load`] has checked
    /// them: this is for a configuration that was changed since.
    ///
    /// # Errors
    /// [`ConfigError::Unsound`], with every broken rule.
    pub fn check(&self, path: &Path) -> Result<(), ConfigError> {
        sound(self.problems(), path)
    }

    /// The output folder: [`Config::load`] has filled it in; `checkpoints/run` for a configuration made otherwise.
    #[must_use]
    pub fn output_dir(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("checkpoints/run"))
    }

    /// The resolved configuration, every key written out; [`Config::parse`] gives the same configuration back.
    ///
    /// # Errors
    /// Values that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(self)
    }

    /// JSON Schema of the YAML, for editors: completion, descriptions, ranges.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Config).to_value()
    }
}

impl CompareConfig {
    /// Whether the text of a YAML file is a comparison and not a run.
    #[must_use]
    pub fn is_comparison(text: &str) -> bool {
        has_key(text, "explainers")
    }

    /// Reads a YAML file, or the built-in settings of that name where there is no such file ([`presets`]), applies
    /// `key.path=value` overrides in their order, and checks types, ranges and the rules across keys. `output` is filled in
    /// from the file's name where it is not given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = presets::read(path)?;
        if has_key(&text, "explainer") && !Self::is_comparison(&text) {
            let command = format!("--config {}", path.display());
            let (found, expected) = ("a training run", "a comparison");
            return Err(ConfigError::WrongKind { path: path.to_owned(), found, expected, command });
        }
        let mut config = Self::parse(&text, path, overrides)?;
        config.output.get_or_insert_with(|| output_of(path, "comparison"));
        Ok(config)
    }

    /// As [`CompareConfig::load`], from the text of a YAML file; `path` is for messages alone and `output` is left as it
    /// is.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let config: Self = document(text, path, overrides)?;
        sound(config.problems(), path)?;
        Ok(config)
    }

    /// The output folder: [`CompareConfig::load`] has filled it in.
    #[must_use]
    pub fn output_dir(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("checkpoints/comparison"))
    }

    /// The configuration with every key written out.
    ///
    /// # Errors
    /// Values that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(self)
    }

    /// JSON Schema of the YAML, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(CompareConfig).to_value()
    }
}

/// Whether a YAML text is a mapping with this key.
fn has_key(text: &str, key: &str) -> bool {
    let tree: Option<serde_json::Value> = serde_saphyr::from_str_with_options(text, yaml::options()).ok();
    tree.is_some_and(|tree| tree.get(key).is_some())
}

/// The output folder where none is given: `checkpoints/` and the name of the YAML file.
fn output_of(path: &Path, unnamed: &str) -> PathBuf {
    Path::new("checkpoints").join(path.file_stem().unwrap_or(unnamed.as_ref()))
}

fn sound(problems: Vec<String>, path: &Path) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Unsound { path: path.to_owned(), problems }) }
}
