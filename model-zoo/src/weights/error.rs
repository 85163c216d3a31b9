//! Errors of reading weights.

use std::io;
use std::path::PathBuf;

/// The largest number of names in an error message; further ones are counted.
const LISTED: usize = 12;

/// Why a file of weights cannot be used.
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
        /// The format by its name or first bytes.
        format: &'static str,
        /// The reason.
        reason: String,
    },
    /// Another file stands in the place of the weights.
    #[error("{path} holds no weights: it is {what}")]
    StandIn {
        /// The file.
        path: PathBuf,
        /// What it is, and the remedy.
        what: String,
    },
    /// The file holds several sets of weights of the network.
    #[error(
        "{origin} holds {} sets of weights: {}; save one of them alone, in Python by \
         torch.save(torch.load(FILE)[\"{first}\"], \"weights.pth\")",
        .keys.len(), .keys.join(", "), first = .keys.first().map_or("", String::as_str)
    )]
    SeveralSets {
        /// The file.
        origin: String,
        /// Their keys in the file, such as `state_dict` and `state_dict_ema`.
        keys: Vec<String>,
    },
    /// The file holds a network without a classification head.
    #[error(
        "{origin} has no classification head for {network} (no {head}): it is a feature extractor{naming}; train a linear \
         head on it and save both, or choose the weights of a classifier"
    )]
    NoHead {
        /// The file.
        origin: String,
        /// The network that was being built.
        network: String,
        /// The head's tensor.
        head: String,
        /// A remark on names of another convention, or nothing.
        naming: &'static str,
    },
    /// The file's tensors are not those of the network.
    #[error("{origin} does not fit {network}:{}", mismatch_text(.missing, .misshaped, .unused))]
    Mismatch {
        /// The file, or the origin of weights without one.
        origin: String,
        /// The network that was being built.
        network: String,
        /// Tensors of the network that the file lacks.
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
