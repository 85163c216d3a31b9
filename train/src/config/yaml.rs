//! YAML text to a type, with errors that name the line, the column and the key.

use super::error::ConfigError;
use super::wording::Wording;
use garde::Validate;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The type of a YAML file: types and ranges of its keys, without the rules across keys.
pub(super) trait Document: DeserializeOwned + Validate<Context = ()> + JsonSchema {}

impl<T: DeserializeOwned + Validate<Context = ()> + JsonSchema> Document for T {}

/// Parses a document without overrides.
pub(super) fn typed<T: Document>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options_valid(text, options())
}

/// `y`, `no` and `on` are strings, as in YAML 1.2: a folder may have such a name.
pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

/// The error with line, column and the lines around it.
pub(super) fn located(error: &serde_saphyr::Error, path: &Path) -> ConfigError {
    let name = path.display().to_string();
    let options = serde_saphyr::render_options! { formatter: &Wording, source_name: Some(name.as_str()) };
    let rendered = error.render_with_options(options);
    let message = rendered.strip_prefix("error: ").unwrap_or(&rendered).trim_end().to_owned();
    ConfigError::Yaml { path: path.to_owned(), message }
}

/// The problem without line and column.
pub(super) fn message(error: &serde_saphyr::Error) -> String {
    serde_saphyr::MessageFormatter::format_message(&Wording, error).into_owned()
}
