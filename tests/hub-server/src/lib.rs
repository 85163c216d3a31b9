//! A local test server with the routes of the Hugging Face Hub: model repositories in memory, and failures on demand. Its
//! responses have the fields that the clients `hf-hub` (Rust) and `huggingface_hub` (Python) read; `scripts/check_hub` checks
//! it with the latter.
//!
//! Large files use LFS's `basic` transfer; it does not offer Xet, so clients fall back to the older protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

pub mod http;
mod repository;
mod routes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub use http::{Answer, Request, TestServer, refused_url};
use repository::Repository;

/// The token with read and write access.
pub const TOKEN: &str = "hf_standInWrite0123456789";
/// The token with read access only.
pub const READ_TOKEN: &str = "hf_standInRead0123456789";

/// A failure in place of the ordinary response.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer; the request is not processed.
    Answer(Answer),
    /// This answer, although the request is processed.
    AnswerAfter(Answer),
    /// Somebody else commits to `main` first; then the request is processed.
    Overtaken,
    /// The request is processed, and somebody else commits to `main` before this answer.
    OvertakenAfter(Answer),
    /// The request is processed with the first text replaced by the second in its body.
    Altered(String, String),
}

/// The Hub. Serves until it is dropped.
pub struct Hub {
    server: TestServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By `owner/name`.
    repositories: BTreeMap<String, Repository>,
    /// Large files by their SHA-256.
    objects: BTreeMap<String, Vec<u8>>,
    faults: Vec<Planned>,
}

struct Planned {
    method: &'static str,
    /// Part of the path.
    path: &'static str,
    times: usize,
    fault: Fault,
}

impl Hub {
    /// A Hub without repositories, at an address that is free.
    #[must_use]
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// The same at an address of this machine.
    #[must_use]
    pub fn listen(address: &str) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let server = TestServer::listen(address, {
            let state = Arc::clone(&state);
            move |request, _| state.lock().unwrap().serve(request)
        });
        Self { server, state }
    }

    /// The value of `HF_ENDPOINT` for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url("")
    }

    /// From now on `times` requests of this method, with `path` in their path, end in `fault`.
    pub fn fail(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        self.state().faults.push(Planned { method, path, times, fault });
    }

    /// The requests so far, as `METHOD PATH`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.server.requests().iter().map(|Request { method, path, .. }| format!("{method} {path}")).collect()
    }

    /// How many requests of this method had `path` in their path.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        let asked = self.server.requests();
        asked.iter().filter(|request| request.method == method && request.path.contains(path)).count()
    }

    /// Titles of the commits of a branch, the latest first; empty for an unknown branch.
    #[must_use]
    pub fn commits(&self, repository: &str, branch: &str) -> Vec<String> {
        self.state().repositories.get(repository).map_or_else(Vec::new, |found| found.titles(branch))
    }

    /// The commit that a branch is at.
    #[must_use]
    pub fn head(&self, repository: &str, branch: &str) -> Option<String> {
        self.state().repositories.get(repository)?.resolve(branch)
    }

    /// A file at a revision.
    #[must_use]
    pub fn file(&self, repository: &str, revision: &str, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let found = state.repositories.get(repository)?;
        Some(found.files(&found.resolve(revision)?)?.get(path)?.content.clone())
    }

    /// Whether a repository is private; `None` for an unknown repository.
    #[must_use]
    pub fn is_private(&self, repository: &str) -> Option<bool> {
        self.state().repositories.get(repository).map(|found| found.private)
    }

    /// Makes a repository.
    pub fn create(&self, repository: &str, private: bool) {
        self.state().repositories.insert(repository.to_owned(), Repository::new(private));
    }

    /// Commits files to a branch, past every check.
    pub fn commit(&self, repository: &str, branch: &str, files: &[(&str, &[u8])]) {
        let mut state = self.state();
        let found = state.repositories.get_mut(repository).expect("a repository");
        let mut tree = found.resolve(branch).and_then(|head| found.files(&head).cloned()).unwrap_or_default();
        for (path, content) in files {
            tree.insert((*path).to_owned(), repository::File::new(path, content.to_vec()));
        }
        found.commit(branch, "a commit of somebody else", tree);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
