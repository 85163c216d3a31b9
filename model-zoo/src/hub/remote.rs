//! One repository on the Hub, asked with patience: what failed for the moment is asked again, as long as that is safe and
//! as late as the Hub wants it.

use std::collections::BTreeMap;
use std::time::Duration;

use hf_hub::repository::{AddSource, CommitInfo, CommitOperation, RepoTreeEntry};
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeModel};

use super::{HubError, Repository};
use crate::weights::hash::is_git_oid;
use crate::weights::source::{SourceSettings, hub_client, root_cause};

/// How often a request that failed for the moment is repeated.
const REPETITIONS: u32 = 4;
/// Longest time that the Hub may ask to be left alone before a request is given up.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Most of what the Hub says that is shown, in characters.
const MESSAGE: usize = 300;

/// A file as a commit holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// What git calls it, or LFS's pointer to it.
    pub oid: String,
    /// Bytes of the file itself.
    pub size: u64,
}

/// What a revision means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its commit.
    pub commit: String,
    /// Whether the repository is private, where the Hub says so.
    pub private: Option<bool>,
}

/// A repository on the Hub.
pub(super) struct Remote<'a> {
    repository: Repository,
    client: HFClientSync,
    api: HFRepositorySync<RepoTypeModel>,
    endpoint: String,
    backoff: Duration,
    repetitions: u32,
    /// What must not be shown even if the Hub says it.
    secret: Option<String>,
    wait: &'a mut dyn FnMut(Duration),
}

impl<'a> Remote<'a> {
    /// The repository; `wait` is how to let time pass.
    pub fn new(
        repository: &Repository,
        settings: &SourceSettings,
        wait: &'a mut dyn FnMut(Duration),
    ) -> Result<Self, HubError> {
        let failed = |error: HFError| HubError::Other {
            doing: "reach",
            repository: repository.clone(),
            reason: error.to_string(),
        };
        // The client would repeat a commit without looking whether the first one went through, and knows no Retry-After.
        let inner = hub_client(settings, Some(0)).map_err(failed)?;
        let endpoint = inner.endpoint().to_owned();
        let client = HFClientSync::from_inner(inner).map_err(failed)?;
        let api = client.model(repository.owner.as_str(), repository.name.as_str());
        let secret = settings.hub.token.clone().or_else(|| std::env::var("HF_TOKEN").ok());
        Ok(Self {
            repository: repository.clone(),
            client,
            api,
            endpoint,
            backoff: settings.backoff,
            repetitions: REPETITIONS,
            secret: secret.filter(|secret| !secret.is_empty()),
            wait,
        })
    }

    /// The same, asking once.
    #[must_use]
    pub fn hurried(self) -> Self {
        Self { repetitions: 0, ..self }
    }

    /// The address of a page of the repository.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{}{path}", self.endpoint, self.repository)
    }

    /// What a revision means, by default `main`; `None` where repository or revision are not there.
    pub fn head(&mut self, revision: Option<&str>) -> Result<Option<Head>, HubError> {
        let found = self.patiently("look at", |remote| remote.api.info().maybe_revision(revision).send());
        let info = match found {
            Err(HubError::Refused { status: 404, .. }) => return Ok(None),
            other => other?,
        };
        match info.sha.filter(|commit| is_git_oid(commit)) {
            Some(commit) => Ok(Some(Head { commit, private: info.private })),
            None => Err(self.other("look at", "the Hub names no commit")),
        }
    }

    /// Every file of a commit.
    pub fn tree(&mut self, commit: &str) -> Result<BTreeMap<String, Listed>, HubError> {
        let list = |remote: &Self| remote.api.list_tree().revision(commit).recursive(true).send();
        let entries = self.patiently("list the files of", list)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { oid, size, path, .. } => Some((path, Listed { oid, size })),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(entries.into_iter().filter_map(file).collect())
    }

    /// Makes the repository; it may be there already.
    pub fn create(&mut self, private: bool) -> Result<(), HubError> {
        let id = self.repository.to_string();
        let create = |remote: &Self| {
            let request = remote.client.create_repository().repo_id(&id).repo_type(RepoTypeModel);
            request.private(private).exist_ok(true).send()
        };
        self.patiently("create", create).map(drop)
    }

    /// Makes a branch that begins at a commit; it may be there already.
    pub fn branch(&mut self, name: &str, commit: &str) -> Result<(), HubError> {
        let made = |remote: &Self| remote.api.create_branch().branch(name).revision(commit).send();
        match self.patiently("make a branch of", made) {
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    /// Commits files on top of `parent`, once: what became of a commit that failed has to be looked at first.
    pub fn commit(
        &mut self,
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
        request.send().map_err(|error| self.explain("commit to", error))
    }

    /// Lets time pass before repetition number `attempt`, counted from 0; `false` where there is to be no other.
    pub fn pause(&mut self, attempt: u32, error: &HubError) -> bool {
        let wait = match error {
            HubError::Refused { wait: Some(wait), .. } => *wait,
            _ => self.backoff * 2u32.pow(attempt.min(8)),
        };
        if attempt >= self.repetitions || wait > LONGEST_WAIT {
            return false;
        }
        (self.wait)(wait);
        true
    }

    /// Asks for what may safely be asked for twice.
    fn patiently<T>(&mut self, doing: &'static str, ask: impl Fn(&Self) -> Result<T, HFError>) -> Result<T, HubError> {
        let mut attempt = 0;
        loop {
            let error = match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.explain(doing, error),
            };
            if !error.is_transient() || !self.pause(attempt, &error) {
                return Err(error);
            }
            attempt += 1;
        }
    }

    fn other(&self, doing: &'static str, reason: &str) -> HubError {
        HubError::Other { doing, repository: self.repository.clone(), reason: self.postprocess(reason) }
    }

    fn explain(&self, doing: &'static str, error: HFError) -> HubError {
        let refused = |status, message: Option<&str>, wait| HubError::Refused {
            doing,
            repository: self.repository.clone(),
            status,
            message: message.map(|message| self.postprocess(message)).filter(|message| !message.is_empty()),
            wait,
        };
        let network = |reason: String| HubError::Network {
            doing,
            repository: self.repository.clone(),
            endpoint: self.endpoint.clone(),
            reason: self.postprocess(&reason),
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

    /// A line of what others say, without anything that looks like a token.
    fn postprocess(&self, text: &str) -> String {
        let text = match &self.secret {
            Some(secret) => text.replace(secret.as_str(), "(hidden)"),
            None => text.to_owned(),
        };
        let word = |word: &str| if word.contains("hf_") { "(hidden)".to_owned() } else { word.to_owned() };
        let words: Vec<String> = text.split(|c: char| c.is_whitespace() || c.is_control()).map(word).collect();
        words.join(" ").trim().chars().take(MESSAGE).collect()
    }
}
