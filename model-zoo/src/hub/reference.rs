//! Names of explainers on the Hub.

use std::fmt;
use std::str::FromStr;

use crate::weights::source::{HubFile, WeightSource, WeightSourceError};

/// The beginning of every reference.
const SCHEME: &str = "hf://";

/// The text does not name an explainer or a repository on the Hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not name an explainer.
    #[error("`{given}` is no explainer on the Hub: {reason}; give hf://owner/name[@revision]")]
    Explainer {
        /// The text.
        given: String,
        /// The reason.
        reason: String,
    },
    /// The text does not name a repository.
    #[error("`{given}` is no repository on the Hub: {reason}; give owner/name")]
    Repository {
        /// The text.
        given: String,
        /// The reason.
        reason: String,
    },
}

/// A repository of models on the Hub, written `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The user or organisation.
    pub owner: String,
    /// The repository's name.
    pub name: String,
}

/// An explainer on the Hub, written `hf://owner/name[@revision]`; a `/` inside the revision is written `%2F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// Branch, tag or commit; the Hub's default is `main`.
    pub revision: Option<String>,
}

impl Reference {
    /// Whether `text` is a reference and not a folder: it begins with `hf://`.
    #[must_use]
    pub fn is_hub_reference(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// A file of the repository as a source of weights.
    pub(super) fn file(&self, file: &str) -> HubFile {
        let Repository { owner, name } = self.repository.clone();
        HubFile { owner, name, revision: self.revision.clone(), file: file.to_owned() }
    }

    /// The same explainer at a commit.
    pub(super) fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason: &str| ReferenceError::Explainer { given: given.to_owned(), reason: reason.to_owned() };
        let Some(rest) = given.strip_prefix(SCHEME) else { return Err(wrong("it does not begin with hf://")) };
        // The Hub's own revisions, such as `refs/pr/1`, hold two more.
        let own = ["@refs/pr/", "@refs/convert/"].iter().any(|revision| rest.contains(revision));
        if rest.split('/').count() > if own { 4 } else { 2 } {
            return Err(wrong("an explainer is a whole repository, not one file of it"));
        }
        match given.parse() {
            Ok(WeightSource::Hub(HubFile { owner, name, revision, .. })) => {
                Ok(Self { repository: Repository { owner, name }, revision })
            }
            Ok(_) => Err(wrong("it does not begin with hf://")),
            Err(WeightSourceError::Syntax { reason, .. }) => Err(wrong(&reason)),
            Err(other) => Err(wrong(&other.to_string())),
        }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason: String| ReferenceError::Repository { given: given.to_owned(), reason };
        match format!("{SCHEME}{given}").parse() {
            Ok(Reference { repository, revision: None }) => Ok(repository),
            Ok(_) => Err(wrong("a repository has no `@`; --revision chooses the branch".to_owned())),
            Err(ReferenceError::Explainer { reason, .. } | ReferenceError::Repository { reason, .. }) => {
                Err(wrong(reason))
            }
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        match &self.revision {
            Some(revision) => write!(f, "@{}", revision.replace('%', "%25").replace('/', "%2F")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_written_as_they_are_parsed() {
        for text in ["hf://ada/ttame", "hf://ada/ttame@v1", "hf://ada/t.t_a-me@refs%2Fpr%2F1"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        for text in ["hf://ada/ttame@refs%2Fpr%2F1", "hf://ada/ttame@refs/pr/1"] {
            let parsed: Reference = text.parse().unwrap();
            assert_eq!(parsed.revision.as_deref(), Some("refs/pr/1"));
        }
        assert_eq!("ada/ttame".parse::<Repository>().unwrap().to_string(), "ada/ttame");
    }

    #[test]
    fn invalid_references_are_refused_with_the_reason() {
        for (given, part) in [
            ("ada/ttame", "hf://"),
            ("hf://ada", "between owner and name"),
            ("hf://ada/..", "name"),
            ("hf://ada/ttame/config.json", "whole repository"),
            ("hf://ada/ttame@../../x", "whole repository"),
            ("hf://ada/ttame@refs/pr/1/config.json", "whole repository"),
            ("hf://ada/ttame@..%2F..%2Fx", "revision"),
            ("hf://ada/tt ame", "name"),
        ] {
            let error = given.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("hf://owner/name[@revision]"), "{error}");
        }
        for given in ["ada", "ada/ttame@main", "../ttame", "ada/a/b", ""] {
            let error = given.parse::<Repository>().unwrap_err().to_string();
            assert!(error.contains("owner/name"), "{error}");
        }
    }
}
