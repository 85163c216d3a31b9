//! Errors of finding, downloading and checking files of weights.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{HubFile, WeightSource};
use crate::retry::Retryable;
use crate::weights::hash::HashError;

/// Why a file of weights cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightSourceError {
    /// The text is not a source of weights.
    #[error("`{given}` is no source of weights: {reason}; give {}", WeightSource::FORMS)]
    Syntax {
        /// The text.
        given: String,
        /// The reason.
        reason: String,
    },
    /// The configured value is not a SHA-256.
    #[error("backbone.sha256 is `{0}`, expected 64 hexadecimal digits, as `sha256sum FILE` prints them")]
    Sha256Syntax(String),
    /// There is no SHA-256 to check a download against.
    #[error(
        "no SHA-256 to check {0} against: give it as backbone.sha256 (as `sha256sum FILE` prints it), or an address whose \
         file name holds its first eight or more digits, as in vit_b_16-c867db91.pth"
    )]
    Unverified(String),
    /// The source is not a file, so there is nothing to download or to check.
    #[error("`{0}` weights are not a file: there is nothing to download, and backbone.sha256 does not apply")]
    NoFile(WeightSource),
    /// The environment names no folder for downloads.
    #[error("no folder for downloads: set EXPLAINER_CACHE (or XDG_CACHE_HOME, or HOME)")]
    NoCacheFolder,
    /// A file cannot be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A local file or folder cannot be used.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// The action, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file has another SHA-256 than expected.
    #[error(
        "{file} has SHA-256 {found}, but {authority} says {expected}: either the file is damaged or has changed, or \
         the expected value belongs to another file"
    )]
    Mismatch {
        /// The file or address.
        file: String,
        /// The SHA-256 of its bytes.
        found: String,
        /// The expected SHA-256, or its first digits.
        expected: String,
        /// The origin of the expected value.
        authority: &'static str,
    },
    /// A small file in the Hub's cache differs from the Hub's.
    #[error(
        "{path} differs from the Hub's file: its git object is {found}, the Hub's is {expected}; it is damaged, or a proxy \
         changes downloads",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The git object name of its bytes.
        found: String,
        /// The one that the Hub states.
        expected: String,
    },
    /// No answer, or an incomplete one.
    #[error("cannot download {url}: {reason}; check the address, the network and HTTPS_PROXY")]
    Network {
        /// The address or source.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The server refuses.
    #[error("cannot download {url}: the server answers {status}; {}", advice(*.status, *.wait))]
    Http {
        /// The address or source.
        url: String,
        /// HTTP status, e.g. 404.
        status: u16,
        /// The pause that the server wants (`Retry-After`).
        wait: Option<Duration>,
    },
    /// The Hub wants a token (401), or the token has no permission (403).
    #[error(
        "the Hub answers {status} for {file}: the repository is private or gated, or does not exist. Check the name; \
         accept the model's conditions on its page if it has any; set HF_TOKEN to a token that may read it, or store \
         one with `hf auth login`"
    )]
    HubDenied {
        /// The file.
        file: HubFile,
        /// HTTP status, 401 or 403.
        status: u16,
    },
    /// Repository, revision or file does not exist on the Hub.
    #[error("the Hub has no {missing} (for {file}); check the name")]
    HubNotFound {
        /// The missing part, e.g. `revision v2 of owner/name`.
        missing: String,
        /// The file.
        file: HubFile,
    },
    /// The file was never downloaded and the network is forbidden.
    #[error(
        "{file} is not in the Hub's cache {cache}, and HF_HUB_OFFLINE forbids the download: unset HF_HUB_OFFLINE once, or \
         copy the cache of a machine that has it (HF_HOME is its folder)",
        cache = .cache.display()
    )]
    HubOffline {
        /// The file.
        file: HubFile,
        /// The cache folder that was searched.
        cache: PathBuf,
    },
    /// Any other error of the Hub's client.
    #[error("cannot fetch {origin} from the Hub: {reason}")]
    Hub {
        /// The file, or the Hub's address.
        origin: String,
        /// The client's message.
        reason: String,
    },
}

fn advice(status: u16, wait: Option<Duration>) -> String {
    match (status, wait) {
        (401 | 403, _) => "it wants a login: download the file yourself and give its path".into(),
        (404 | 410, _) => "check the address".into(),
        (429 | 500.., Some(wait)) => format!("try again in {} s", wait.as_secs()),
        (429 | 500.., None) => "try again later".into(),
        _ => "check the address, or download the file yourself and give its path".into(),
    }
}

impl WeightSourceError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }
}

impl Retryable for WeightSourceError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Http { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http { wait, .. } => *wait,
            _ => None,
        }
    }
}
