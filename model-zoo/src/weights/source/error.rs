//! What can go wrong between the name of a source and a file whose SHA-256 is right.

use std::io;
use std::path::{Path, PathBuf};

use super::{HubFile, WeightSource};

/// What can be wrong with a source of weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightSourceError {
    /// The text is no source.
    #[error("`{given}` is no source of weights: {reason}; give {}", WeightSource::FORMS)]
    Syntax {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configured SHA-256 is none.
    #[error("backbone.sha256 is `{0}`, expected 64 hexadecimal digits, as `sha256sum FILE` prints them")]
    Sha256Syntax(String),
    /// Nothing tells whether what an address serves is right.
    #[error(
        "nothing to check {0} against: give its SHA-256 as backbone.sha256 (as `sha256sum FILE` prints it), or an \
         address whose file name holds its first eight or more digits, as in vit_b_16-c867db91.pth"
    )]
    Unverified(String),
    /// The source is not a file, so there is nothing to fetch or to check.
    #[error("`{0}` weights are no file: there is none to fetch, and backbone.sha256 has nothing to check")]
    NoFile(WeightSource),
    /// The environment names no folder for downloads.
    #[error("no folder to keep downloads in: set EXPLAINER_CACHE (or XDG_CACHE_HOME, or HOME)")]
    NoCacheFolder,
    /// A local file or folder fails.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The bytes are not those that were expected.
    #[error(
        "{file} has SHA-256 {found}, but {authority} says {expected}: either the file is damaged or has changed, or \
         the expected value is not this file's"
    )]
    Mismatch {
        /// The file or address.
        file: String,
        /// The SHA-256 of its bytes.
        found: String,
        /// The SHA-256, or its first digits, that it should have.
        expected: String,
        /// Who said so.
        authority: &'static str,
    },
    /// A small file of the Hub's cache is not the one that the Hub has.
    #[error(
        "{path} is not the file that the Hub has: git calls it {found}, the Hub {expected}; it is damaged, or something \
         on the way changes what is downloaded",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What git calls its bytes.
        found: String,
        /// What it should be called.
        expected: String,
    },
    /// No answer, or one that broke off.
    #[error("cannot download {url}: {reason}; check the address, the network and HTTPS_PROXY")]
    Network {
        /// The address or source.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The server refuses.
    #[error("cannot download {url}: the server answers {status}; {}", advice(*.status))]
    Http {
        /// The address or source.
        url: String,
        /// HTTP status, e.g. 404.
        status: u16,
    },
    /// The Hub wants to know who asks (401) or says no to whom it knows (403).
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
    #[error("the Hub has no {missing} (asked for {file})")]
    HubNotFound {
        /// What does not exist, e.g. `revision v2 of owner/name`.
        missing: String,
        /// The file.
        file: HubFile,
    },
    /// Offline, and the file was never downloaded.
    #[error(
        "{file} is not in the Hub's cache {cache}, and HF_HUB_OFFLINE forbids to download it: unset HF_HUB_OFFLINE \
         once, or copy the cache of a machine that has it (HF_HOME names its place)",
        cache = .cache.display()
    )]
    HubOffline {
        /// The file.
        file: HubFile,
        /// The cache folder that was searched.
        cache: PathBuf,
    },
    /// Anything else the Hub's client reports.
    #[error("cannot fetch {origin} from the Hub: {reason}")]
    Hub {
        /// The file, or the Hub's address.
        origin: String,
        /// What its client says.
        reason: String,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "it wants a login: download the file yourself and give its path",
        404 | 410 => "check the address",
        429 | 500.. => "try again later",
        _ => "check the address, or download the file yourself and give its path",
    }
}

impl WeightSourceError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Http { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
