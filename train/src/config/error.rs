//! Why a configuration is refused.

use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is neither such a file nor built-in settings of that name.
    #[error("{0}")]
    Missing(String),
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}; expected a YAML file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A comparison where a run is expected, or the reverse.
    #[error("{}: this is the configuration of {found}, expected one of {expected}; use `explainer-train {command}`", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind that was found.
        found: &'static str,
        /// The kind that was expected.
        expected: &'static str,
        /// The arguments of the program that take such a file.
        command: String,
    },
    /// The YAML is malformed, or has an unknown key, a wrong type or a value out of range.
    #[error("{}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Line, column, problem, and the lines around it.
        message: String,
    },
    /// A `key.path=value` of the command line is invalid.
    #[error("override `{text}`: {message}")]
    Override {
        /// The override.
        text: String,
        /// The problem.
        message: String,
    },
    /// Keys that are valid one by one contradict each other.
    #[error("{}: the configuration does not fit together:\n  {}", path.display(), problems.join("\n  "))]
    Unsound {
        /// The file.
        path: PathBuf,
        /// One message for each broken rule.
        problems: Vec<String>,
    },
}
