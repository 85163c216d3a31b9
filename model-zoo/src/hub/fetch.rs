//! Downloads of explainers from the Hub into its cache on this machine.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::RepositoryClient;
use super::{HubError, Reference};
use crate::artifact::{CARD, CONFIG, MODEL, RUN};
use crate::retry::Retryable;
use crate::weights::hash::is_git_oid;
use crate::weights::source::{Progress, SourceSettings, WeightSource};

/// The files of an explainer and their largest sizes in bytes. The tensors come last: without them an explainer is
/// incomplete, so an interrupted download is not used.
const FILES: [(&str, u64); 4] = [(CONFIG, 10 << 20), (CARD, 10 << 20), (RUN, 10 << 20), (MODEL, 2 << 30)];
/// The branch of a reference without a revision.
const MAIN: &str = "main";

/// An explainer on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder of its files, for [`Artifact::load`](crate::artifact::Artifact::load).
    pub folder: PathBuf,
    /// Its reference, with the commit.
    pub reference: Reference,
}

/// Downloads the files of one commit of an explainer into the Hub's cache, unless they are there, and checks each against
/// the hash that the Hub states. Their content is checked by [`Artifact::load`](crate::artifact::Artifact::load).
///
/// A branch is looked up each time. If the Hub cannot be reached, or `HF_HUB_OFFLINE` is set, the branch means the commit
/// of the last look-up. `progress` receives each download's bytes.
///
/// # Errors
/// [`HubError`] if a file is missing, refused, too large or damaged.
pub fn fetch(
    reference: &Reference,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Snapshot, HubError> {
    fetch_with_sleep(reference, settings, progress, &mut std::thread::sleep)
}

pub(super) fn fetch_with_sleep(
    reference: &Reference,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
    sleep: &mut dyn FnMut(Duration),
) -> Result<Snapshot, HubError> {
    let cache = Cache::of(reference, settings);
    let revision = reference.revision.as_deref().unwrap_or(MAIN);
    if let Some(commit) = Some(revision).filter(|revision| is_git_oid(revision) && cache.has(revision)) {
        return cached(reference, &cache, commit, settings, progress);
    }
    let cached_commit = || cache.commit(revision).filter(|commit| cache.has(commit));
    let not_cached = |why: String| HubError::NotCached { reference: reference.clone(), cache: cache.root.clone(), why };
    if settings.hub.offline {
        let commit = cached_commit().ok_or_else(|| not_cached("HF_HUB_OFFLINE forbids the network".into()))?;
        return cached(reference, &cache, &commit, settings, progress);
    }

    let client = RepositoryClient::new(&reference.repository, settings, sleep)?;
    // With a copy in the cache an unreachable Hub causes no delay.
    let client = if cached_commit().is_some() { client.without_retries() } else { client };
    let info = match client.revision_info(reference.revision.as_deref()) {
        Ok(Some(info)) => info,
        Ok(None) => return Err(HubError::NotFound(reference.clone())),
        Err(error) if error.is_transient() => {
            let commit = cached_commit().ok_or(error)?;
            return cached(reference, &cache, &commit, settings, progress);
        }
        Err(error) => return Err(error),
    };
    let commit = info.commit;
    let exact = reference.at(&commit);
    let snapshot = if cache.has(&commit) {
        cached(reference, &cache, &commit, settings, progress)?
    } else {
        let listed = client.files(&commit)?;
        for (file, limit) in FILES {
            match listed.get(file) {
                None if matches!(file, CONFIG | MODEL) => return Err(HubError::NoArtifact { reference: exact, file }),
                Some(entry) if entry.size > limit => {
                    return Err(HubError::TooLarge { reference: exact, file, size: entry.size, limit });
                }
                _ => {}
            }
        }
        let present = FILES.into_iter().filter(|(file, _)| listed.contains_key(*file));
        files(&exact, &cache, present.map(|(file, _)| file), settings, progress)?
    };
    if !is_git_oid(revision) && cache.commit(revision).as_ref() != Some(&commit) {
        cache.remember(revision, &commit)?;
    }
    Ok(snapshot)
}

/// The explainer of a commit that is in the cache. Its files are checked again, damaged ones are downloaded again.
fn cached(
    reference: &Reference,
    cache: &Cache,
    commit: &str,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Snapshot, HubError> {
    let folder = cache.snapshot(commit);
    let present = FILES.into_iter().map(|(file, _)| file).filter(|file| folder.join(file).exists());
    files(&reference.at(commit), cache, present, settings, progress)
}

/// Files of a commit, each from the cache or from the Hub.
fn files(
    exact: &Reference,
    cache: &Cache,
    names: impl Iterator<Item = &'static str>,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Snapshot, HubError> {
    let folder = cache.snapshot(exact.revision.as_deref().unwrap_or_default());
    for name in names {
        let found = WeightSource::Hub(exact.file(name)).resolve(None, settings, progress)?;
        if found.path != folder.join(name) {
            let reason = format!("the Hub sent {} instead of {}", found.origin, exact.file(name));
            return Err(HubError::Other { doing: "download", repository: exact.repository.clone(), reason });
        }
    }
    Ok(Snapshot { folder, reference: exact.clone() })
}

/// The repository's folder in the cache, whose layout all clients of the Hub share.
struct Cache {
    root: PathBuf,
    repository: PathBuf,
}

impl Cache {
    fn of(reference: &Reference, settings: &SourceSettings) -> Self {
        let repository = &reference.repository;
        let root = settings.hub.cache_dir.clone().unwrap_or_else(hf_hub::resolve_cache_dir);
        let folder = root.join(format!("models--{}--{}", repository.owner, repository.name));
        Self { root, repository: folder }
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit)
    }

    /// Whether the files that every explainer needs are there.
    fn has(&self, commit: &str) -> bool {
        [CONFIG, MODEL].iter().all(|file| self.snapshot(commit).join(file).exists())
    }

    /// The file that holds the commit of a revision. No part of a revision is `..`, which parsing a reference checks.
    fn revision_file(&self, revision: &str) -> PathBuf {
        self.repository.join("refs").join(revision)
    }

    /// The commit of a revision at the last look-up.
    fn commit(&self, revision: &str) -> Option<String> {
        if is_git_oid(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.revision_file(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_git_oid(commit))
    }

    /// Stores the commit of a revision.
    fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.revision_file(revision);
        let write = |folder: &Path| {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(commit.as_bytes())?;
            file.persist(&path).map_err(|error| error.error)
        };
        let folder = path.parent().unwrap_or(&self.repository);
        match write(folder) {
            Ok(_) => Ok(()),
            Err(source) => Err(HubError::Io { action: "write to the Hub's cache", path: path.clone(), source }),
        }
    }
}
