//! Files of the Hugging Face Hub, by `hf-hub` and the cache that it shares with Python's `huggingface_hub`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeModel};

use super::download::{RETRIES, root_cause};
use super::{Expected, HubFile, Progress, Resolved, SourceSettings, WeightSourceError};
use crate::retry::retry;
use crate::weights::hash::{git_oid, is_git_oid, is_sha256, sha256_file};

/// The Hub's client. It makes each request once: retries are [`crate::retry`]'s, which honours `Retry-After` and does not
/// repeat a commit blindly.
pub(crate) fn client(settings: &SourceSettings) -> Result<HFClient, HFError> {
    let hub = &settings.hub;
    let mut builder = HFClient::builder().retry_max_attempts(0);
    if let Some(endpoint) = &hub.endpoint {
        builder = builder.endpoint(endpoint);
    }
    let token = hub.checked_token().map_err(|problem| HFError::Other(problem.to_owned()))?;
    if let Some(token) = token {
        builder = builder.token(token);
    }
    if let Some(folder) = &hub.cache_dir {
        builder = builder.cache_dir(folder);
    }
    builder.build()
}

/// The file from the Hub's cache or from the Hub. A large file is checked against the SHA-256 that the Hub states, another
/// one against its git object name.
pub(super) fn fetch(
    file: &HubFile,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Resolved, WeightSourceError> {
    let request = Request::new(file, settings)?;
    let mut force = false;
    loop {
        let path = retry(RETRIES, settings.backoff, &mut thread::sleep, || request.download(force, progress))?;
        let sha256 = sha256_file(&path)?;
        let checked = check(&path, &sha256);
        match checked {
            // `hf-hub` 1.0 caches any answer, even an error page, and would return it for ever.
            Err(_) if !force && !settings.hub.offline => force = true,
            Err(error) => return Err(error),
            Ok(()) => {
                let origin = exact_origin(file, &path);
                return Ok(Resolved { path, sha256, origin });
            }
        }
    }
}

/// Compares a file of the cache and its SHA-256 with its blob's name, which is the target of the snapshot's link.
fn check(path: &Path, sha256: &str) -> Result<(), WeightSourceError> {
    let blob = path.canonicalize().ok();
    let name = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    if is_sha256(name) {
        let expected = Expected { digits: name.to_owned(), authority: "the Hub" };
        return expected.check(&path.display().to_string(), sha256);
    }
    if is_git_oid(name) {
        let bytes = std::fs::read(path).map_err(|source| WeightSourceError::io("read", path, source))?;
        let found = git_oid(&bytes);
        if found != name {
            let (path, expected) = (path.to_path_buf(), name.to_owned());
            return Err(WeightSourceError::Damaged { path, found, expected });
        }
    }
    Ok(())
}

/// `file` with the commit in place of the branch, from the cache's layout `.../snapshots/COMMIT/FILE`.
fn exact_origin(file: &HubFile, path: &Path) -> String {
    let snapshot = path.ancestors().nth(file.file.split('/').count());
    let commit = snapshot.and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy().into_owned());
    HubFile { revision: commit.or_else(|| file.revision.clone()), ..file.clone() }.to_string()
}

struct Request<'a> {
    file: &'a HubFile,
    offline: bool,
    client: HFClient,
    repository: HFRepositorySync<RepoTypeModel>,
}

impl<'a> Request<'a> {
    fn new(file: &'a HubFile, settings: &SourceSettings) -> Result<Self, WeightSourceError> {
        let failed = |error: HFError| WeightSourceError::Hub { origin: file.to_string(), reason: error.to_string() };
        let client = client(settings).map_err(failed)?;
        let repository =
            HFClientSync::from_inner(client.clone()).map_err(failed)?.model(file.owner.as_str(), file.name.as_str());
        Ok(Self { file, offline: settings.hub.offline, client, repository })
    }

    fn download(&self, force: bool, progress: &mut Progress<'_>) -> Result<PathBuf, WeightSourceError> {
        let (sender, events) = mpsc::channel();
        let download = move || {
            self.repository
                .download_file()
                .filename(self.file.file.as_str())
                .maybe_revision(self.file.revision.as_deref())
                .force_download(force)
                .local_files_only(self.offline)
                .progress(Forward(sender))
                .send()
        };
        // `hf-hub` reports from threads of its own; the caller's callback stays on the caller's thread.
        let result = thread::scope(|scope| {
            let worker = scope.spawn(download);
            while !worker.is_finished() {
                match events.recv_timeout(Duration::from_millis(100)) {
                    Ok((done, total)) => progress(done, total),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            for (done, total) in events.try_iter() {
                progress(done, total);
            }
            worker.join().unwrap_or_else(|_| Err(HFError::Other("its client stopped unexpectedly".to_owned())))
        });
        result.map_err(|error| self.error(error))
    }

    fn error(&self, error: HFError) -> WeightSourceError {
        let file = self.file.clone();
        let origin = file.to_string();
        match error {
            HFError::AuthRequired { .. } => WeightSourceError::HubDenied { file, status: 401 },
            HFError::Forbidden { .. } => WeightSourceError::HubDenied { file, status: 403 },
            HFError::EntryNotFound { .. } => WeightSourceError::HubNotFound { missing: self.missing(), file },
            HFError::LocalEntryNotFound { .. } => {
                WeightSourceError::HubOffline { file, cache: self.client.cache_dir().to_path_buf() }
            }
            HFError::Http { context } => {
                WeightSourceError::Http { url: origin, status: context.status.as_u16(), wait: None }
            }
            HFError::RateLimited { context, retry_after } => {
                WeightSourceError::Http { url: origin, status: context.status.as_u16(), wait: retry_after }
            }
            HFError::Request { source, .. } => {
                let reason = format!("{} ({})", root_cause(&source), self.client.endpoint());
                WeightSourceError::Network { url: origin, reason }
            }
            HFError::Io(source) => WeightSourceError::io("use the Hub's cache", self.client.cache_dir(), source),
            error => WeightSourceError::Hub { origin, reason: error.to_string() },
        }
    }

    /// The part of a file's address that does not exist. `hf-hub` reports each of them as a missing file.
    fn missing(&self) -> String {
        let HubFile { owner, name, revision, file } = self.file;
        let repository = format!("{owner}/{name}");
        if !self.offline {
            if matches!(self.repository.exists().send(), Ok(false)) {
                return format!("repository {repository}");
            }
            if let Some(revision) = revision
                && matches!(self.repository.revision_exists().revision(revision).send(), Ok(false))
            {
                return format!("revision {revision} of {repository}");
            }
        }
        format!("file {file} in {repository}")
    }
}

/// Sends the progress of `hf-hub` to the waiting thread.
struct Forward(mpsc::Sender<(u64, Option<u64>)>);

impl ProgressHandler for Forward {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let (done, total) = match event {
            DownloadEvent::Start { total_bytes, .. } => (0, *total_bytes),
            DownloadEvent::Progress { files } => match files.first() {
                Some(file) => (file.bytes_completed, file.total_bytes),
                None => return,
            },
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => (*bytes_completed, *total_bytes),
            DownloadEvent::Complete => return,
        };
        // It fails only if the receiver is gone.
        let _ = self.0.send((done, (total > 0).then_some(total)));
    }
}

#[cfg(test)]
mod tests {
    use hub_server::{Answer, Request as Asked, TestServer, refused_url};

    use super::super::{HubSettings, WeightSource};
    use super::*;

    const BODY: &[u8] = b"abc";
    const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const TOKEN: &str = "hf_secret";
    const SOURCE: &str = "hf://timm/net/model.safetensors";
    const PATH: &str = "/timm/net/resolve/main/model.safetensors";

    struct Hub {
        cache: tempfile::TempDir,
        offline: bool,
    }

    impl Hub {
        fn new() -> Self {
            Self { cache: tempfile::tempdir().unwrap(), offline: false }
        }

        fn fetch(&self, source: &str, endpoint: &str, sha256: Option<&str>) -> Result<Resolved, WeightSourceError> {
            self.fetch_watched(source, endpoint, sha256, &mut |_, _| {})
        }

        fn fetch_watched(
            &self,
            source: &str,
            endpoint: &str,
            sha256: Option<&str>,
            progress: &mut Progress<'_>,
        ) -> Result<Resolved, WeightSourceError> {
            let hub = HubSettings {
                endpoint: Some(endpoint.to_owned()),
                token: Some(TOKEN.to_owned()),
                cache_dir: Some(self.cache.path().to_path_buf()),
                offline: self.offline,
            };
            let settings = SourceSettings { cache_dir: None, hub, backoff: Duration::ZERO };
            source.parse::<WeightSource>()?.resolve(sha256, &settings, progress)
        }
    }

    /// What the Hub answers for a large file, to `HEAD` and `GET` alike.
    fn file(body: &[u8]) -> Answer {
        Answer::body(body).header("ETag", &format!("\"{SHA}\"")).header("X-Repo-Commit", COMMIT)
    }

    fn asked(server: &TestServer) -> Vec<String> {
        server.requests().iter().map(|Asked { method, path, .. }| format!("{method} {path}")).collect()
    }

    #[test]
    fn a_file_is_downloaded_checked_and_kept() {
        let server = TestServer::start(|_, _| file(BODY));
        let mut hub = Hub::new();
        let mut seen = Vec::new();
        let resolved =
            hub.fetch_watched("hf://timm/net", &server.url(""), Some(SHA), &mut |done, total| seen.push((done, total)));
        let resolved = resolved.unwrap();
        assert_eq!(std::fs::read(&resolved.path).unwrap(), BODY);
        assert_eq!(resolved.sha256, SHA);
        assert_eq!(resolved.origin, format!("hf://timm/net@{COMMIT}/model.safetensors"));
        assert_eq!(resolved.path.extension().unwrap(), "safetensors");
        assert_eq!((seen.first(), seen.last()), (Some(&(0, Some(3))), Some(&(3, Some(3)))));
        assert_eq!(asked(&server), [format!("HEAD {PATH}"), format!("GET {PATH}")]);
        assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));

        // The Hub is asked whether the branch has moved, but the file is not sent again.
        assert_eq!(hub.fetch(SOURCE, &server.url(""), None).unwrap(), resolved);
        assert_eq!(asked(&server).len(), 3);
        // What the origin names is in the cache, and needs no network at all; nor does the branch, offline or not.
        assert_eq!(hub.fetch(&resolved.origin, &server.url(""), None).unwrap(), resolved);
        assert_eq!(asked(&server).len(), 3);
        drop(server);
        assert_eq!(hub.fetch(SOURCE, &refused_url(""), None).unwrap(), resolved);
        hub.offline = true;
        assert_eq!(hub.fetch(SOURCE, &refused_url(""), None).unwrap(), resolved);
    }

    #[test]
    fn revisions_and_folders_are_in_the_address() {
        let server = TestServer::start(|_, _| file(BODY));
        let resolved = Hub::new().fetch("hf://timm/net@refs%2Fpr%2F1/a/b.pth", &server.url(""), None).unwrap();
        assert_eq!(asked(&server)[1], "GET /timm/net/resolve/refs%2Fpr%2F1/a/b.pth");
        assert_eq!(resolved.origin, format!("hf://timm/net@{COMMIT}/a/b.pth"));
    }

    #[test]
    fn another_sha256_than_configured_is_refused() {
        let server = TestServer::start(|_, _| file(BODY));
        let other = SHA.replace("ba78", "ba79");
        let error = Hub::new().fetch(SOURCE, &server.url(""), Some(&other)).unwrap_err().to_string();
        assert!(error.contains(SHA) && error.contains(&other) && error.contains("backbone.sha256"), "{error}");
    }

    #[test]
    fn a_busy_hub_is_asked_again() {
        let server = TestServer::start(|_, before| match before {
            0 => Answer::status(429).header("Retry-After", "0"),
            1 => Answer::status(503),
            _ => file(BODY),
        });
        assert_eq!(Hub::new().fetch(SOURCE, &server.url(""), None).unwrap().sha256, SHA);
        let server = TestServer::start(|_, _| Answer::status(429).header("Retry-After", "86400"));
        let error = Hub::new().fetch(SOURCE, &server.url(""), None).unwrap_err().to_string();
        assert!(error.contains("429") && error.contains("in 86400 s"), "{error}");
        assert_eq!(asked(&server).len(), 1, "nobody waits for a day");
    }

    #[test]
    fn a_file_with_another_hash_is_downloaded_once_more() {
        // As when the storage behind the Hub answers with an error page.
        let server = TestServer::start(|_, before| if before == 1 { Answer::status(403) } else { file(BODY) });
        let hub = Hub::new();
        let resolved = hub.fetch(SOURCE, &server.url(""), None).unwrap();
        assert_eq!(std::fs::read(resolved.path).unwrap(), BODY);

        let server = TestServer::start(|_, _| file(b"abd"));
        let error = Hub::new().fetch(SOURCE, &server.url(""), None).unwrap_err().to_string();
        assert!(error.contains("the Hub says") && error.contains(SHA), "{error}");
        assert_eq!(asked(&server).len(), 4);
    }

    #[test]
    fn a_small_file_is_checked_against_its_git_object_name() {
        let tag = format!("\"{}\"", git_oid(BODY));
        let answer = |body: &[u8], tag: &str| Answer::body(body).header("ETag", tag).header("X-Repo-Commit", COMMIT);
        let right = (answer(BODY, &tag), answer(b"<html>", &tag));
        let server = TestServer::start(move |_, before| if before == 1 { right.1.clone() } else { right.0.clone() });
        let hub = Hub::new();
        let resolved = hub.fetch(SOURCE, &server.url(""), None).unwrap();
        assert_eq!(std::fs::read(resolved.path).unwrap(), BODY);

        let wrong = answer(b"<html>", &format!("\"{}\"", git_oid(BODY)));
        let server = TestServer::start(move |_, _| wrong.clone());
        let error = Hub::new().fetch(SOURCE, &server.url(""), None).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains(&git_oid(BODY)), "{error}");
    }

    #[test]
    fn offline_without_the_file_says_so() {
        let server = TestServer::start(|_, _| file(BODY));
        let hub = Hub { offline: true, ..Hub::new() };
        let error = hub.fetch(SOURCE, &server.url(""), None).unwrap_err().to_string();
        let cache = hub.cache.path().to_str().unwrap();
        assert!(error.contains("HF_HUB_OFFLINE") && error.contains(SOURCE) && error.contains(cache), "{error}");
        assert!(asked(&server).is_empty());
    }

    #[test]
    fn a_refusal_names_the_token() {
        for status in [401, 403] {
            let server = TestServer::start(move |_, _| Answer::status(status));
            let error = Hub::new().fetch(SOURCE, &server.url(""), None).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(&status.to_string()) && text.contains("HF_TOKEN") && text.contains(SOURCE), "{text}");
            assert!(!text.contains(TOKEN), "{text}");
        }
    }

    #[test]
    fn the_missing_part_is_named() {
        let missing = |repository: u16, revision: u16| {
            let server = TestServer::start(move |request, _| match request.path.as_str() {
                "/api/models/timm/net" => Answer::status(repository),
                "/api/models/timm/net/revision/v2" => Answer::status(revision),
                _ => Answer::status(404),
            });
            Hub::new().fetch("hf://timm/net@v2/a.pth", &server.url(""), None).unwrap_err().to_string()
        };
        let cases = [
            (missing(404, 404), "no repository timm/net "),
            (missing(200, 404), "no revision v2 of timm/net "),
            (missing(200, 200), "no file a.pth in timm/net "),
        ];
        for (error, expected) in cases {
            assert!(error.contains(expected) && error.contains("hf://timm/net@v2/a.pth"), "{error}");
        }
    }

    #[test]
    fn a_hub_that_does_not_answer_is_named() {
        let endpoint = refused_url("");
        let error = Hub::new().fetch(SOURCE, &endpoint, None).unwrap_err();
        assert!(matches!(error, WeightSourceError::Network { .. }), "{error}");
        let error = error.to_string();
        assert!([&endpoint, SOURCE, "refused"].iter().all(|part| error.contains(part)), "{error}");

        let server = TestServer::start(|_, _| Answer::status(503));
        let error = Hub::new().fetch(SOURCE, &server.url(""), None).unwrap_err().to_string();
        assert!(error.contains("503"), "{error}");

        let error = Hub::new().fetch(SOURCE, "no address", None).unwrap_err().to_string();
        assert!(error.contains(SOURCE), "{error}");
    }
}
