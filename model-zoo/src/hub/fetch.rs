//! An explainer from the Hub, or from its cache on this machine.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::remote::Remote;
use super::{HubError, Reference};
use crate::artifact::{CARD, CONFIG, MODEL, RUN};
use crate::weights::hash::is_git_oid;
use crate::weights::source::{Progress, SourceSettings, WeightSource};

/// The files of an explainer and their largest sizes in bytes. The tensors come last: without them an explainer is not
/// whole, so that a download that was cut off is not taken for one.
const FILES: [(&str, u64); 4] = [(CONFIG, 10 << 20), (CARD, 10 << 20), (RUN, 10 << 20), (MODEL, 2 << 30)];
/// The branch that a reference without a revision means.
const MAIN: &str = "main";

/// An explainer on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Folder of its files, for [`Artifact::load`](crate::artifact::Artifact::load).
    pub folder: PathBuf,
    /// Where it is from, with the commit.
    pub reference: Reference,
}

/// Fetches the files of one commit of an explainer into the Hub's cache, unless they are there, and checks each against
/// the hash that the Hub has for it. Whether they are a sound explainer is
/// [`Artifact::load`](crate::artifact::Artifact::load)'s to say.
///
/// A branch is looked up each time; where the Hub cannot be reached, or must not be (`HF_HUB_OFFLINE`), it means what it
/// meant the last time. `progress` is told of each download's bytes.
///
/// # Errors
/// [`HubError`] says what is not there, was refused, is too large or is damaged.
pub fn fetch(
    reference: &Reference,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Fetched, HubError> {
    fetch_with(reference, settings, progress, &mut std::thread::sleep)
}

pub(super) fn fetch_with(
    reference: &Reference,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
    wait: &mut dyn FnMut(Duration),
) -> Result<Fetched, HubError> {
    let cache = Cache::of(reference, settings);
    let revision = reference.revision.as_deref().unwrap_or(MAIN);
    if let Some(commit) = Some(revision).filter(|revision| is_git_oid(revision) && cache.has(revision)) {
        return cached(reference, &cache, commit, settings, progress);
    }
    let known = || cache.commit(revision).filter(|commit| cache.has(commit));
    let lacking = |why: String| HubError::NotCached { reference: reference.clone(), cache: cache.root.clone(), why };
    if settings.hub.offline {
        let commit = known().ok_or_else(|| lacking("HF_HUB_OFFLINE forbids the network".into()))?;
        return cached(reference, &cache, &commit, settings, progress);
    }

    let remote = Remote::new(&reference.repository, settings, wait)?;
    // What is on this machine is at hand at once if the Hub is not.
    let mut remote = if known().is_some() { remote.hurried() } else { remote };
    let head = match remote.head(reference.revision.as_deref()) {
        Ok(Some(head)) => head,
        Ok(None) => return Err(HubError::NotFound(reference.clone())),
        Err(error) if error.is_transient() => {
            let commit = known().ok_or(error)?;
            return cached(reference, &cache, &commit, settings, progress);
        }
        Err(error) => return Err(error),
    };
    let commit = head.commit;
    let exact = reference.at(&commit);
    let fetched = if cache.has(&commit) {
        cached(reference, &cache, &commit, settings, progress)?
    } else {
        let tree = remote.tree(&commit)?;
        for (file, limit) in FILES {
            match tree.get(file) {
                None if matches!(file, CONFIG | MODEL) => return Err(HubError::NoArtifact { reference: exact, file }),
                Some(listed) if listed.size > limit => {
                    return Err(HubError::TooLarge { reference: exact, file, size: listed.size, limit });
                }
                _ => {}
            }
        }
        let there = FILES.into_iter().filter(|(file, _)| tree.contains_key(*file));
        files(&exact, &cache, there.map(|(file, _)| file), settings, progress)?
    };
    if !is_git_oid(revision) && cache.commit(revision).as_ref() != Some(&commit) {
        cache.remember(revision, &commit)?;
    }
    Ok(fetched)
}

/// The explainer of a commit that is in the cache, checked again; damaged files are fetched again.
fn cached(
    reference: &Reference,
    cache: &Cache,
    commit: &str,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Fetched, HubError> {
    let folder = cache.snapshot(commit);
    let there = FILES.into_iter().map(|(file, _)| file).filter(|file| folder.join(file).exists());
    files(&reference.at(commit), cache, there, settings, progress)
}

/// Files of a commit, each from the cache or else from the Hub.
fn files(
    exact: &Reference,
    cache: &Cache,
    names: impl Iterator<Item = &'static str>,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Fetched, HubError> {
    let folder = cache.snapshot(exact.revision.as_deref().unwrap_or_default());
    for name in names {
        let found = WeightSource::Hub(exact.file(name)).resolve(None, settings, progress)?;
        if found.path != folder.join(name) {
            let reason = format!("the Hub answers with {} in place of {}", found.origin, exact.file(name));
            return Err(HubError::Other { doing: "download", repository: exact.repository.clone(), reason });
        }
    }
    Ok(Fetched { folder, reference: exact.clone() })
}

/// The repository's part of the cache, in the layout that the Hub's clients share.
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

    /// Whether what an explainer cannot do without is there.
    fn has(&self, commit: &str) -> bool {
        [CONFIG, MODEL].iter().all(|file| self.snapshot(commit).join(file).exists())
    }

    /// A reference is checked when it is parsed: no part of a revision leads upwards.
    fn pointer(&self, revision: &str) -> PathBuf {
        self.repository.join("refs").join(revision)
    }

    /// The commit that a revision meant the last time.
    fn commit(&self, revision: &str) -> Option<String> {
        if is_git_oid(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.pointer(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_git_oid(commit))
    }

    /// Writes down what a revision means.
    fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.pointer(revision);
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
