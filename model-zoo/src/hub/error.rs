//! Errors of fetching and publishing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::reference::{Reference, ReferenceError, Repository};
use crate::artifact::ArtifactError;
use crate::retry::Retryable;
use crate::weights::source::WeightSourceError;

/// Why an explainer cannot be fetched or published. No variant holds the access token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text does not name an explainer or a repository.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The Hub refuses.
    #[error(
        "cannot {doing} {repository}: the Hub answers {status}{}; {}",
        quoted(.message), advice(*.status, *.wait)
    )]
    Refused {
        /// The request, such as `commit to`.
        doing: &'static str,
        /// The repository.
        repository: Repository,
        /// HTTP status.
        status: u16,
        /// The Hub's own message in one line, without tokens.
        message: Option<String>,
        /// The pause that the Hub wants (`Retry-After`).
        wait: Option<Duration>,
    },
    /// No answer, or an incomplete one.
    #[error(
        "cannot {doing} {repository}: {reason} ({endpoint}); check the network, HF_ENDPOINT and HTTPS_PROXY, then run it \
         again"
    )]
    Network {
        /// The request, such as `commit to`.
        doing: &'static str,
        /// The repository.
        repository: Repository,
        /// The Hub's address.
        endpoint: String,
        /// The cause.
        reason: String,
    },
    /// Publishing while offline.
    #[error("cannot publish to {0}: HF_HUB_OFFLINE forbids the network; unset it")]
    Offline(Repository),
    /// The explainer was never downloaded and cannot be downloaded now.
    #[error(
        "{reference} is not completely in the Hub's cache {cache}, and {why}: fetch it once with a network, or copy the \
         cache of a machine that has it (HF_HOME is its folder)",
        cache = .cache.display()
    )]
    NotCached {
        /// The explainer.
        reference: Reference,
        /// The cache folder that was searched.
        cache: PathBuf,
        /// Why it cannot be downloaded.
        why: String,
    },
    /// The repository or its revision does not exist.
    #[error(
        "the Hub has no {0}: check the name; a private repository needs a token that may read it (HF_TOKEN, or \
         `hf auth login`)"
    )]
    NotFound(Reference),
    /// A file that every explainer has is missing.
    #[error("{reference} has no {file}: it is not an explainer of this program")]
    NoArtifact {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: &'static str,
    },
    /// A file is larger than those of any explainer.
    #[error("{reference}: {file} has {size} bytes, expected at most {limit}; it is not downloaded")]
    TooLarge {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The largest size that is accepted, in bytes.
        limit: u64,
    },
    /// No licence was given.
    #[error(
        "no licence: without one nobody may use the explainer. Give --license with a licence identifier of the Hub \
         (apache-2.0, cc-by-4.0, ...; `other` for the rest); the licences of the classifier and of the images limit the choice"
    )]
    Unlicensed,
    /// The text is not a licence identifier.
    #[error(
        "`{0}` is no licence identifier of the Hub: expected letters, digits, `.`, `-` and `+`, such as apache-2.0"
    )]
    License(String),
    /// A private repository was requested, but it exists and is public.
    #[error(
        "{0} exists and is public: --private applies to a new repository only. Leave it out, change the repository's \
         settings on its page, or choose another name"
    )]
    Public(Repository),
    /// The branch got another commit during publishing.
    #[error(
        "{repository} changed during publishing: its {revision} was at commit {expected}, now it is at {found}. Run it \
         again to publish on top of that commit"
    )]
    Moved {
        /// The repository.
        repository: Repository,
        /// The branch.
        revision: String,
        /// The commit that was expected as the parent.
        expected: String,
        /// The branch's commit.
        found: String,
    },
    /// Publishing failed; at most an empty repository was created.
    #[error("{source}. Nothing was published{}", if *.created { "; the new repository exists and is empty" } else { "" })]
    NotPublished {
        /// Why.
        source: Box<HubError>,
        /// Whether the repository was created.
        created: bool,
    },
    /// Publishing failed, and it is unknown whether the commit was made.
    #[error("{source}. It is unknown whether the commit was made: check {page}, then run it again")]
    Uncertain {
        /// Why.
        source: Box<HubError>,
        /// The page of the Hub that shows it.
        page: String,
    },
    /// The Hub holds other bytes than were sent.
    #[error(
        "published to {reference}, but the Hub holds another {file} than was sent: do not use that commit; run it again"
    )]
    Altered {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: String,
    },
    /// The artifact cannot be read or is not valid.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A file cannot be downloaded or is damaged.
    #[error(transparent)]
    Source(#[from] WeightSourceError),
    /// A local file or folder fails.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// The action, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Any other error of the client.
    #[error("cannot {doing} {repository}: {reason}")]
    Other {
        /// The request, such as `commit to`.
        doing: &'static str,
        /// The repository.
        repository: Repository,
        /// The client's message.
        reason: String,
    },
}

fn quoted(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default()
}

fn advice(status: u16, wait: Option<Duration>) -> String {
    match (status, wait) {
        (401, _) => {
            "the token is missing or invalid, or there is no such repository: set HF_TOKEN to a valid token, or store \
                     one with `hf auth login`, and check the name"
                .into()
        }
        (403, _) => "the token has no permission: use one with write access to the repository, or ask its owner".into(),
        (404 | 410, _) => "check the name; a private repository needs a token that may read it".into(),
        (409 | 412, _) => "another change of the repository is in progress: run it again".into(),
        (429, Some(wait)) => format!("too many requests: run it again in {} s", wait.as_secs()),
        (429, None) => "too many requests: run it again later".into(),
        (500.., _) => "the Hub has an outage (https://status.huggingface.co): run it again later".into(),
        _ => "correct the request, or try again later".into(),
    }
}

impl Retryable for HubError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }
}

impl HubError {
    /// Whether the Hub certainly did not execute the request.
    pub(super) fn is_refusal(&self) -> bool {
        // 408 comes from a proxy in front of the Hub and does not say what the Hub did.
        matches!(self, Self::Refused { status: 400..=499, .. }) && !matches!(self, Self::Refused { status: 408, .. })
    }

    /// Whether the branch has another commit than expected, or is being changed.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 412, .. })
    }
}
