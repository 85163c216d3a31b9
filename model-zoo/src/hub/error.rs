//! What can go wrong between this machine and the Hub.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Reference, Repository};
use crate::artifact::ArtifactError;
use crate::weights::source::WeightSourceError;

/// Why an explainer cannot be fetched or published. No variant holds the access token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text names no explainer.
    #[error("`{given}` is no explainer on the Hub: {reason}; give hf://owner/name[@revision]")]
    Reference {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The text names no repository.
    #[error("`{given}` is no repository on the Hub: {reason}; give owner/name")]
    Repository {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Hub says no.
    #[error(
        "cannot {doing} {repository}: the Hub answers {status}{}; {}",
        quoted(.message), advice(*.status, *.wait)
    )]
    Refused {
        /// What was tried, as `commit to`.
        doing: &'static str,
        /// Where.
        repository: Repository,
        /// HTTP status.
        status: u16,
        /// What the Hub says of it, without the token and cut to a line.
        message: Option<String>,
        /// How long the Hub wants to be left alone.
        wait: Option<Duration>,
    },
    /// No answer, or one that broke off.
    #[error(
        "cannot {doing} {repository}: {reason} ({endpoint}); check the network, HF_ENDPOINT and HTTPS_PROXY, then run it \
         again"
    )]
    Network {
        /// What was tried.
        doing: &'static str,
        /// Where.
        repository: Repository,
        /// The Hub's address.
        endpoint: String,
        /// The cause.
        reason: String,
    },
    /// Publishing without a network.
    #[error("cannot publish to {0}: HF_HUB_OFFLINE forbids the network; unset it")]
    Offline(Repository),
    /// Offline, and the explainer was never downloaded.
    #[error(
        "{reference} is not in the Hub's cache {cache}, or not all of it, and {why}: fetch it once with a network, or \
         copy the cache of a machine that has it (HF_HOME names its place)",
        cache = .cache.display()
    )]
    NotCached {
        /// The explainer.
        reference: Reference,
        /// The cache folder that was searched.
        cache: PathBuf,
        /// Why it is not downloaded.
        why: String,
    },
    /// Neither repository nor revision is there.
    #[error(
        "the Hub has no {0}: check the name; a private repository is shown only to a token that may read it (HF_TOKEN, or \
         `hf auth login`)"
    )]
    NotFound(Reference),
    /// A file that every explainer has is not there.
    #[error("{reference} has no {file}: it is not an explainer that this program wrote")]
    NoArtifact {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: &'static str,
    },
    /// A file is larger than any explainer's.
    #[error("{reference}: {file} has {size} bytes, expected at most {limit}; it is not downloaded")]
    TooLarge {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: &'static str,
        /// Bytes.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A new explainer has no licence.
    #[error(
        "no licence: nobody may use what has none. State one with --license, as the Hub names it (apache-2.0, cc-by-4.0, \
         ...; `other` if it has no name there); the licences of the classifier and of the photographs bear on it"
    )]
    Unlicensed,
    /// The text cannot be a licence.
    #[error("`{0}` is no licence as the Hub names it: expected letters, digits, `.`, `-` and `+`, such as apache-2.0")]
    License(String),
    /// The repository is public, and a private one was asked for.
    #[error(
        "{0} exists and is public: --private is for a repository that is yet to be made. Leave it out, change the \
         repository's settings on its page, or choose another name"
    )]
    Public(Repository),
    /// Somebody else's commit came in between.
    #[error(
        "{repository} moved while this was published: its {revision} was at {expected} and is at {found} now. Run it again \
         to publish on top of that"
    )]
    Moved {
        /// Where.
        repository: Repository,
        /// The branch.
        revision: String,
        /// The commit that was to be the parent.
        expected: String,
        /// The commit that it is at.
        found: String,
    },
    /// Publishing failed and left nothing behind but perhaps an empty repository.
    #[error("{source}. Nothing was published{}", if *.created { ": the new repository is there, and empty" } else { "" })]
    NotPublished {
        /// Why.
        source: Box<HubError>,
        /// Whether the repository was made.
        created: bool,
    },
    /// Publishing failed so that nobody can tell whether it took place.
    #[error("{source}. Whether it was published cannot be told: look at {place}, then run it again")]
    Uncertain {
        /// Why.
        source: Box<HubError>,
        /// A page of the Hub.
        place: String,
    },
    /// The Hub holds something else than was sent.
    #[error(
        "published to {reference}, but the Hub holds another {file} than was sent: do not use that commit; run it again"
    )]
    Altered {
        /// The repository, with the commit.
        reference: Reference,
        /// The file.
        file: String,
    },
    /// What was to be published, or was fetched, is no sound explainer.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A file cannot be downloaded, or is damaged.
    #[error(transparent)]
    Source(#[from] WeightSourceError),
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
    /// An answer that is none, and whatever else the client reports.
    #[error("cannot {doing} {repository}: {reason}")]
    Other {
        /// What was tried.
        doing: &'static str,
        /// Where.
        repository: Repository,
        /// What its client says.
        reason: String,
    },
}

fn quoted(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default()
}

fn advice(status: u16, wait: Option<Duration>) -> String {
    match (status, wait) {
        (401, _) => {
            "it wants a token, or does not know the one it got, or there is no such repository: set HF_TOKEN to a \
                     valid token, or store one with `hf auth login`, and check the name"
                .into()
        }
        (403, _) => "the token may not do this: use one with write access to the repository, or ask its owner".into(),
        (404 | 410, _) => "check the name; a private repository is shown only to a token that may read it".into(),
        (409 | 412, _) => "something else changes the repository at this moment: run it again".into(),
        (429, Some(wait)) => format!("too many requests: run it again in {} s", wait.as_secs()),
        (429, None) => "too many requests: run it again later".into(),
        (500.., _) => "the Hub has trouble (https://status.huggingface.co): run it again later".into(),
        _ => "correct what it names, or try again later".into(),
    }
}

impl HubError {
    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether the Hub has certainly not done what it was asked to.
    pub(super) fn is_refusal(&self) -> bool {
        // 408 comes from what stands in front of the Hub, and does not say what the Hub did.
        matches!(self, Self::Refused { status: 400..=499, .. }) && !matches!(self, Self::Refused { status: 408, .. })
    }

    /// Whether the branch is no longer where it was, or is being changed.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 412, .. })
    }
}
