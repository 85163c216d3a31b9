//! The requests to one repository on the Hub. Those that are safe to repeat are retried.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use hf_hub::repository::{AddSource, CommitInfo, CommitOperation, RepoTreeEntry};
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeModel};

use super::{HubError, Repository};
use crate::retry::{self, Retryable};
use crate::weights::hash::is_git_oid;
use crate::weights::source::{SourceSettings, hub_client, root_cause};

/// How often a request with a transient error is retried.
const RETRIES: usize = 4;
/// The largest part of the Hub's message that is shown, in characters.
const MESSAGE: usize = 300;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileEntry {
    /// The git object of the file, or of its LFS pointer.
    pub oid: String,
    /// The size of the file itself in bytes.
    pub size: u64,
}

/// A revision of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RevisionInfo {
    /// Its commit.
    pub commit: String,
    /// Whether the repository is private; `None` if the Hub does not say.
    pub private: Option<bool>,
}

/// The client of one repository.
pub(super) struct RepositoryClient<'a> {
    repository: Repository,
    client: HFClientSync,
    api: HFRepositorySync<RepoTypeModel>,
    endpoint: String,
    backoff: Duration,
    retries: usize,
    /// The token, which is removed from the Hub's messages.
    token: Option<String>,
    sleep: RefCell<&'a mut dyn FnMut(Duration)>,
}

impl<'a> RepositoryClient<'a> {
    /// A client of `repository`; `sleep` lets time pass between retries.
    pub fn new(
        repository: &Repository,
        settings: &SourceSettings,
        sleep: &'a mut dyn FnMut(Duration),
    ) -> Result<Self, HubError> {
        let failed = |error: HFError| HubError::Other {
            doing: "reach",
            repository: repository.clone(),
            reason: error.to_string(),
        };
        let inner = hub_client(settings).map_err(failed)?;
        let endpoint = inner.endpoint().to_owned();
        let client = HFClientSync::from_inner(inner).map_err(failed)?;
        let api = client.model(repository.owner.as_str(), repository.name.as_str());
        Ok(Self {
            repository: repository.clone(),
            client,
            api,
            endpoint,
            backoff: settings.backoff,
            retries: RETRIES,
            token: settings.hub.token.clone(),
            sleep: RefCell::new(sleep),
        })
    }

    /// The same client, which makes each request once.
    #[must_use]
    pub fn without_retries(self) -> Self {
        Self { retries: 0, ..self }
    }

    /// The address of a page of the repository.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{}{path}", self.endpoint, self.repository)
    }

    /// The commit of a revision, by default of `main`; `None` if the repository or the revision does not exist.
    pub fn revision_info(&self, revision: Option<&str>) -> Result<Option<RevisionInfo>, HubError> {
        let found = self.request("look at", || self.api.info().maybe_revision(revision).send());
        let info = match found {
            Err(HubError::Refused { status: 404, .. }) => return Ok(None),
            other => other?,
        };
        match info.sha.filter(|commit| is_git_oid(commit)) {
            Some(commit) => Ok(Some(RevisionInfo { commit, private: info.private })),
            None => Err(self.other("look at", "the Hub names no commit")),
        }
    }

    /// All files of a commit by their paths.
    pub fn files(&self, commit: &str) -> Result<BTreeMap<String, FileEntry>, HubError> {
        let list = || self.api.list_tree().revision(commit).recursive(true).send();
        let entries = self.request("list the files of", list)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { oid, size, path, .. } => Some((path, FileEntry { oid, size })),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(entries.into_iter().filter_map(file).collect())
    }

    /// Creates the repository if it does not exist.
    pub fn create(&self, private: bool) -> Result<(), HubError> {
        let id = self.repository.to_string();
        let create = || {
            let request = self.client.create_repository().repo_id(&id).repo_type(RepoTypeModel);
            request.private(private).exist_ok(true).send()
        };
        self.request("create", create).map(drop)
    }

    /// Creates a branch at a commit if the branch does not exist.
    pub fn create_branch(&self, name: &str, commit: &str) -> Result<(), HubError> {
        let create = || self.api.create_branch().branch(name).revision(commit).send();
        match self.request("make a branch of", create) {
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    /// Commits files on top of `parent`, without retries: after an error the branch has to be checked first.
    pub fn commit(
        &self,
        revision: &str,
        parent: &str,
        title: &str,
        files: &[(&str, &[u8])],
        create_pr: bool,
    ) -> Result<CommitInfo, HubError> {
        let add = |(name, bytes): &(&str, &[u8])| CommitOperation::Add {
            path_in_repo: (*name).to_owned(),
            source: AddSource::bytes(bytes.to_vec()),
        };
        let request = self.api.create_commit().operations(files.iter().map(add).collect());
        let request = request.commit_message(title).revision(revision).parent_commit(parent).create_pr(create_pr);
        request.send().map_err(|error| self.error("commit to", error))
    }

    /// Retries `attempt` with this client's backoff; see [`retry::retry`].
    pub fn retry<T, E: Retryable>(&self, attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let mut sleep = |pause| (self.sleep.borrow_mut())(pause);
        retry::retry(self.retries, self.backoff, &mut sleep, attempt)
    }

    /// A request that is safe to repeat.
    fn request<T>(&self, doing: &'static str, send: impl Fn() -> Result<T, HFError>) -> Result<T, HubError> {
        self.retry(|| send().map_err(|error| self.error(doing, error)))
    }

    fn other(&self, doing: &'static str, reason: &str) -> HubError {
        HubError::Other { doing, repository: self.repository.clone(), reason: self.redact(reason) }
    }

    fn error(&self, doing: &'static str, error: HFError) -> HubError {
        let refused = |status, message: Option<&str>, wait| HubError::Refused {
            doing,
            repository: self.repository.clone(),
            status,
            message: message.map(|message| self.redact(message)).filter(|message| !message.is_empty()),
            wait,
        };
        let network = |reason: String| HubError::Network {
            doing,
            repository: self.repository.clone(),
            endpoint: self.endpoint.clone(),
            reason: self.redact(&reason),
        };
        match error {
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context } => {
                refused(context.status.as_u16(), context.server_message.as_deref(), None)
            }
            HFError::RateLimited { retry_after, context } => {
                refused(context.status.as_u16(), context.server_message.as_deref(), retry_after)
            }
            HFError::RepoNotFound { context, .. }
            | HFError::RevisionNotFound { context, .. }
            | HFError::EntryNotFound { context, .. } => {
                refused(404, context.as_ref().and_then(|context| context.server_message.as_deref()), None)
            }
            HFError::Request { source, .. } => network(root_cause(&source)),
            other => self.other(doing, &other.to_string()),
        }
    }

    /// A foreign message in one line, with everything hidden that looks like a token.
    fn redact(&self, text: &str) -> String {
        let text = match &self.token {
            Some(token) => text.replace(token.as_str(), "(hidden)"),
            None => text.to_owned(),
        };
        let word = |word: &str| if word.contains("hf_") { "(hidden)".to_owned() } else { word.to_owned() };
        let words: Vec<String> = text.split(|c: char| c.is_whitespace() || c.is_control()).map(word).collect();
        words.join(" ").trim().chars().take(MESSAGE).collect()
    }
}
