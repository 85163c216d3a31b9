//! What can be wrong with weights, in words.

use std::io;
use std::path::PathBuf;

/// How many names an error message lists before it only counts the rest.
const LISTED: usize = 12;

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or read.
    #[error("cannot read weights {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not a readable safetensors or PyTorch file.
    #[error(
        "{path} is not a readable {format} file: {reason}; is it complete? compare its size and SHA-256 with where it came from"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that its name or first bytes suggest.
        format: &'static str,
        /// What the parser found.
        reason: String,
    },
    /// The file's tensors are not those of the network.
    #[error("{origin} does not fit {network}:{}", mismatch_text(.missing, .misshaped, .unused))]
    Mismatch {
        /// Where the weights came from.
        origin: String,
        /// The network that was being built.
        network: String,
        /// Tensors the network needs and the file lacks.
        missing: Vec<String>,
        /// Tensors of another shape: name, shape found, shape expected.
        misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
        /// Tensors of the file that the network does not have.
        unused: Vec<String>,
    },
}

fn mismatch_text(missing: &[String], misshaped: &[(String, Vec<usize>, Vec<usize>)], unused: &[String]) -> String {
    let list = |names: &[String]| {
        let mut text = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > LISTED {
            text += &format!(" and {} more", names.len() - LISTED);
        }
        text
    };
    let shapes: Vec<String> =
        misshaped.iter().map(|(name, found, expected)| format!("{name} is {found:?}, expected {expected:?}")).collect();
    let mut text = String::new();
    for (what, names) in [("missing", missing), ("wrong shape", &shapes[..]), ("not part of the network", unused)] {
        if !names.is_empty() {
            text += &format!("\n  {what} ({}): {}", names.len(), list(names));
        }
    }
    text
}
