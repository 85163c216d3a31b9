//! How explainers on the Hub are named.

use std::fmt;
use std::str::FromStr;

use super::HubError;
use crate::weights::source::{HubFile, WeightSource};

/// What every reference begins with.
const SCHEME: &str = "hf://";

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
    /// Where it is.
    pub repository: Repository,
    /// Branch, tag or commit; the Hub's default is `main`.
    pub revision: Option<String>,
}

impl Reference {
    /// Whether `text` means an explainer on the Hub rather than a folder.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// A file of it, as a source of weights names it.
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
    type Err = HubError;

    fn from_str(given: &str) -> Result<Self, HubError> {
        let wrong = |reason: &str| HubError::Reference { given: given.to_owned(), reason: reason.to_owned() };
        let Some(rest) = given.strip_prefix(SCHEME) else { return Err(wrong("it does not begin with hf://")) };
        if rest.split('/').count() > 2 {
            return Err(wrong("an explainer is a whole repository, not one file of it"));
        }
        match given.parse() {
            Ok(WeightSource::Hub(HubFile { owner, name, revision, .. })) => {
                Ok(Self { repository: Repository { owner, name }, revision })
            }
            Ok(_) => Err(wrong("it does not begin with hf://")),
            Err(crate::weights::source::WeightSourceError::Syntax { reason, .. }) => Err(wrong(&reason)),
            Err(other) => Err(wrong(&other.to_string())),
        }
    }
}

impl FromStr for Repository {
    type Err = HubError;

    fn from_str(given: &str) -> Result<Self, HubError> {
        let wrong = |reason: String| HubError::Repository { given: given.to_owned(), reason };
        match format!("{SCHEME}{given}").parse() {
            Ok(Reference { repository, revision: None }) => Ok(repository),
            Ok(_) => Err(wrong("a repository has no `@`; the branch is --revision's to say".to_owned())),
            Err(HubError::Reference { reason, .. }) => Err(wrong(reason)),
            Err(other) => Err(other),
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
        let parsed: Reference = "hf://ada/ttame@refs%2Fpr%2F1".parse().unwrap();
        assert_eq!(parsed.revision.as_deref(), Some("refs/pr/1"));
        assert_eq!("ada/ttame".parse::<Repository>().unwrap().to_string(), "ada/ttame");
    }

    #[test]
    fn what_is_no_explainer_is_told_why() {
        for (given, part) in [
            ("ada/ttame", "hf://"),
            ("hf://ada", "between owner and name"),
            ("hf://ada/..", "name"),
            ("hf://ada/ttame/config.json", "whole repository"),
            ("hf://ada/ttame@../../x", "whole repository"),
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
