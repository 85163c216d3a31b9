//! The explainers that this project publishes: the entries of `pretrained.toml`, which is compiled into the program.
//!
//! An entry is either compiled into the program or a commit of a repository on the Hub. The registry holds the SHA-256 of
//! its files, so that an opened explainer is the one that was measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use crate::artifact::{CARD, CONFIG, MODEL, RUN, RecordedCost};
use crate::explainer::Method;
use crate::hub::{self, HubError, Reference, Repository};
use crate::spelling::did_you_mean;
use crate::weights::hash::{is_git_oid, is_sha256, sha256};
use crate::weights::source::{Progress, SourceSettings};

/// The registry.
const REGISTRY: &str = include_str!("../pretrained.toml");
/// The files of an explainer; the first two are required.
const FILES: [&str; 4] = [MODEL, CONFIG, CARD, RUN];
/// Files by their names.
type Files = [(&'static str, &'static [u8]); 4];
/// The files of the shipped explainers, by the entry's name.
const SHIPPED: [(&str, Files); 1] = [(
    "quickstart",
    [
        (MODEL, include_bytes!("../assets/quickstart/model.safetensors")),
        (CONFIG, include_bytes!("../assets/quickstart/config.json")),
        (CARD, include_bytes!("../assets/quickstart/README.md")),
        (RUN, include_bytes!("../assets/quickstart/train.yaml")),
    ],
)];

/// Why an entry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    /// The registry is invalid.
    #[error("pretrained.toml: {0}")]
    Registry(String),
    /// The registry has no such entry.
    #[error("the zoo has no explainer `{name}`; it has {known}{}", did_you_mean(name, known.split(", ")))]
    Unknown {
        /// The name.
        name: String,
        /// The known names.
        known: String,
    },
    /// A file has another SHA-256 than the registry.
    #[error("{entry}: {file} has SHA-256 {found}, pretrained.toml expects {expected}; do not use it")]
    Hash {
        /// The entry.
        entry: String,
        /// The file.
        file: String,
        /// Its SHA-256.
        found: String,
        /// The SHA-256 in the registry.
        expected: String,
    },
    /// A file has no SHA-256 in the registry.
    #[error("{entry}: pretrained.toml has no SHA-256 of {file}; do not use it")]
    Unlisted {
        /// The entry.
        entry: String,
        /// The file.
        file: &'static str,
    },
    /// The explainer cannot be downloaded.
    #[error("{entry}: {source}")]
    Hub {
        /// The entry.
        entry: String,
        /// The reason.
        source: HubError,
    },
    /// A file cannot be read or written.
    #[error("{entry}: cannot use {path}: {source}", path = .path.display())]
    Io {
        /// The entry.
        entry: String,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// An explainer of the registry.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in the registry.
    pub name: String,
    /// Its method.
    pub method: Method,
    /// The classifier that it explains.
    pub backbone: String,
    /// The repository on the Hub, `owner/name`; `None` for a shipped explainer.
    pub repository: Option<String>,
    /// The commit in the repository.
    pub revision: Option<String>,
    /// Its licence.
    pub license: String,
    /// The command that trained it.
    pub trained_with: String,
    /// The cost of an explanation.
    pub passes: RecordedCost,
    /// The artifact's figures by name.
    pub figures: BTreeMap<String, f64>,
    /// SHA-256 of its files, 64 lower-case hexadecimal digits, by name.
    pub sha256: BTreeMap<String, String>,
}

/// An explainer of the registry on this machine.
#[derive(Debug)]
pub struct OpenedEntry {
    folder: PathBuf,
    /// Deletes the folder of a shipped explainer when dropped.
    _unpacked: Option<TempDir>,
}

impl OpenedEntry {
    /// The folder of its files, which exists as long as this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// All explainers of the registry.
///
/// # Errors
/// [`ZooError::Registry`] for an invalid registry.
pub fn entries() -> Result<Vec<Entry>, ZooError> {
    parse(REGISTRY)
}

/// The explainer of this name.
///
/// # Errors
/// [`ZooError::Unknown`] with the known names, [`ZooError::Registry`].
pub fn find(name: &str) -> Result<Entry, ZooError> {
    let entries = entries()?;
    let known = entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown = ZooError::Unknown { name: name.to_owned(), known };
    entries.into_iter().find(|entry| entry.name == name).ok_or(unknown)
}

fn parse(text: &str) -> Result<Vec<Entry>, ZooError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Registry {
        explainer: Vec<Entry>,
    }
    let Registry { explainer } = toml::from_str(text).map_err(|error| ZooError::Registry(error.to_string()))?;
    for entry in &explainer {
        entry.check().map_err(|reason| ZooError::Registry(format!("{}: {reason}", entry.name)))?;
    }
    Ok(explainer)
}

impl Entry {
    /// Its place for printing: `shipped`, or `hf://` with the commit.
    #[must_use]
    pub fn place(&self) -> String {
        match self.reference() {
            Ok(Some(reference)) => reference.to_string(),
            _ => "shipped".to_owned(),
        }
    }

    /// Puts its files into a folder, from this program or from the Hub, and compares each with the registry's SHA-256. A file
    /// without one is refused.
    ///
    /// # Errors
    /// Any [`ZooError`] but `Unknown`.
    pub fn open(&self, settings: &SourceSettings, progress: &mut Progress<'_>) -> Result<OpenedEntry, ZooError> {
        let failed = |source| ZooError::Hub { entry: self.name.clone(), source };
        let opened = match self.reference().map_err(failed)? {
            Some(reference) => {
                let folder = hub::fetch(&reference, settings, progress).map_err(failed)?.folder;
                OpenedEntry { folder, _unpacked: None }
            }
            None => self.unpack()?,
        };
        for (file, expected) in &self.sha256 {
            let path = opened.folder.join(file);
            let found = sha256(&fs::read(&path).map_err(self.io(&path))?);
            if found != *expected {
                let (entry, file, expected) = (self.name.clone(), file.clone(), expected.clone());
                return Err(ZooError::Hash { entry, file, found, expected });
            }
        }
        match FILES.into_iter().find(|file| !self.sha256.contains_key(*file) && opened.folder.join(file).exists()) {
            Some(file) => Err(ZooError::Unlisted { entry: self.name.clone(), file }),
            None => Ok(opened),
        }
    }

    /// Writes a shipped explainer to a temporary folder.
    fn unpack(&self) -> Result<OpenedEntry, ZooError> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("explainer-").tempdir().map_err(self.io(&temporary))?;
        for (file, bytes) in self.shipped().into_iter().flatten() {
            let path = folder.path().join(file);
            fs::write(&path, bytes).map_err(self.io(&path))?;
        }
        Ok(OpenedEntry { folder: folder.path().to_path_buf(), _unpacked: Some(folder) })
    }

    fn shipped(&self) -> Option<Files> {
        SHIPPED.into_iter().find(|(name, _)| *name == self.name).map(|(_, files)| files)
    }

    fn reference(&self) -> Result<Option<Reference>, HubError> {
        let Some(repository) = &self.repository else { return Ok(None) };
        Ok(Some(Reference { repository: repository.parse::<Repository>()?, revision: self.revision.clone() }))
    }

    fn io(&self, path: &Path) -> impl Fn(std::io::Error) -> ZooError {
        let (entry, path) = (self.name.clone(), path.to_path_buf());
        move |source| ZooError::Io { entry: entry.clone(), path: path.clone(), source }
    }

    /// Checks that the entry determines its files: a commit, and the SHA-256 of the required ones.
    fn check(&self) -> Result<(), String> {
        self.reference().map_err(|error| error.to_string())?;
        match (&self.repository, &self.revision) {
            (Some(_), Some(commit)) if is_git_oid(commit) => {}
            (Some(_), found) => return Err(format!("revision is {found:?}, expected a commit of 40 digits")),
            (None, Some(_)) => return Err("a revision without a repository".to_owned()),
            (None, None) if self.shipped().is_none() => {
                return Err("it has no repository and is not shipped".to_owned());
            }
            (None, None) => {}
        }
        for file in [MODEL, CONFIG] {
            if !self.sha256.get(file).is_some_and(|digits| is_sha256(digits)) {
                return Err(format!("sha256 has no SHA-256 of {file}"));
            }
        }
        match self.sha256.keys().find(|file| !FILES.contains(&file.as_str())) {
            Some(file) => Err(format!("sha256 has {file}, which is no file of an explainer")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Artifact, ArtifactConfig};
    use burn::tensor::Device;

    fn offline() -> SourceSettings {
        let mut settings = SourceSettings::from_env();
        settings.hub.offline = true;
        settings
    }

    #[test]
    fn every_shipped_explainer_is_listed_and_sound() {
        let entries = entries().unwrap();
        for (name, _) in SHIPPED {
            assert!(entries.iter().any(|entry| entry.name == name), "{name}");
        }
        for entry in entries.iter().filter(|entry| entry.repository.is_none()) {
            assert_eq!(entry.place(), "shipped");
            let opened = entry.open(&offline(), &mut |_, _| {}).unwrap();
            let ArtifactConfig { method, backbone, passes, figures, .. } =
                Artifact::load(opened.folder(), &Device::flex()).unwrap().config;
            assert_eq!((method, &backbone.name, passes), (entry.method, &entry.backbone, entry.passes));
            assert!(entry.figures.iter().all(|(name, value)| figures.get(name) == Some(value)), "{figures:?}");
            let folder = opened.folder().to_path_buf();
            drop(opened);
            assert!(!folder.exists());
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = find("quickstop").unwrap_err().to_string();
        assert!(error.contains("quickstop") && error.contains("quickstart"), "{error}");
    }

    #[test]
    fn a_file_that_was_changed_is_refused() {
        let mut entry = find("quickstart").unwrap();
        entry.sha256.insert(MODEL.into(), "ab".repeat(32));
        let error = entry.open(&offline(), &mut |_, _| {}).unwrap_err().to_string();
        assert!(["quickstart", MODEL, "SHA-256", &"ab".repeat(32)].iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn a_file_that_the_registry_does_not_know_is_refused() {
        for file in [CARD, RUN] {
            let mut entry = find("quickstart").unwrap();
            entry.sha256.remove(file);
            entry.check().unwrap();
            let error = entry.open(&offline(), &mut |_, _| {}).unwrap_err().to_string();
            assert!(error.contains("quickstart") && error.contains(file) && error.contains("SHA-256"), "{error}");
        }
    }

    #[test]
    fn invalid_registries_are_refused() {
        let first = REGISTRY.find("[[explainer]]").unwrap();
        let sound = &REGISTRY[first..];
        for (from, to, part) in [
            ("name = \"quickstart\"", "name = \"phantom\"", "not shipped"),
            ("method = \"ttame\"", "method = \"guess\"", "guess"),
            ("license = ", "colour = 1\nlicense = ", "colour"),
            ("license = ", "repository = \"ada/x\"\nlicense = ", "commit"),
            ("license = ", "repository = \"ada/x\"\nrevision = \"main\"\nlicense = ", "commit"),
            ("license = ", "repository = \"../x\"\nlicense = ", "owner"),
            ("\"model.safetensors\" = \"", "\"model.safetensors\" = \"0", "model.safetensors"),
            ("\"README.md\"", "\"../README.md\"", "../README.md"),
        ] {
            let error = parse(&sound.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("pretrained.toml"), "{from} -> {to}: {error}");
        }
    }
}
