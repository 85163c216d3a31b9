//! Publishing of an explainer: its files, their difference to the repository, and one commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;

use super::client::{FileEntry, RepositoryClient, RevisionInfo};
use super::{HubError, Reference, Repository};
use crate::artifact::bee::{BeeArtifact, is_bee};
use crate::artifact::{Artifact, CARD, CONFIG, MODEL, Published, RUN, published_card};
use crate::retry::Retryable;
use crate::weights::hash::{git_oid, pointer_oid, sha256};
use crate::weights::source::SourceSettings;

/// Name of the contact sheet in the repository.
pub const SHEET: &str = "contact_sheet.png";
/// The default branch.
const MAIN: &str = "main";

/// An explainer to be published, and its description.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Folder of the artifact.
    pub artifact: PathBuf,
    /// The repository to publish to.
    pub repository: Repository,
    /// The licence identifier of the Hub, such as `apache-2.0`.
    pub license: Option<String>,
    /// A contact sheet (PNG), if there is one.
    pub sheet: Option<PathBuf>,
    /// The images that the figures were measured on, if known.
    pub images: Option<String>,
}

/// How to publish.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Branch; `main` by default. A branch that does not exist is created at `main`.
    pub revision: Option<String>,
    /// Create the repository as a private one.
    pub private: bool,
    /// Open a pull request instead of a commit on the branch.
    pub create_pr: bool,
    /// Title of the commit.
    pub title: Option<String>,
}

/// The files of a publication, checked and ready to be sent.
#[derive(Clone, Debug)]
pub struct Upload {
    repository: Repository,
    licensed: bool,
    files: Vec<UploadFile>,
}

/// A file of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadFile {
    /// Name in the repository.
    pub name: &'static str,
    /// Content.
    pub bytes: Vec<u8>,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The change that publishing a file makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The repository has no such file.
    Added,
    /// The repository has another file of this name.
    Replaced,
    /// The repository has the same file.
    None,
}

/// The result of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// A commit holds the files.
    Published {
        /// The repository, with the commit.
        reference: Reference,
        /// The commit's page.
        page: String,
        /// Names of the changed files.
        changed: Vec<&'static str>,
        /// Whether the repository was created.
        created: bool,
    },
    /// A pull request holds the files.
    Proposed {
        /// The page of the pull request, or of all pull requests.
        page: String,
        /// Names of the changed files.
        changed: Vec<&'static str>,
    },
    /// The repository has the same files already; no commit was made.
    Unchanged {
        /// The repository, with the commit.
        reference: Reference,
    },
}

impl UploadFile {
    fn new(name: &'static str, bytes: Vec<u8>) -> Self {
        let sha256 = sha256(&bytes);
        Self { name, bytes, sha256 }
    }

    /// Whether this is the file of an entry, be it stored in git or in LFS.
    fn matches(&self, entry: &FileEntry) -> bool {
        let size = self.bytes.len() as u64;
        size == entry.size && (entry.oid == git_oid(&self.bytes) || entry.oid == pointer_oid(&self.sha256, size))
    }
}

impl Upload {
    /// Reads and checks the artifact, and writes its card for publication. A card that was edited keeps its text and gets
    /// new front matter. A missing licence is an error of [`Upload::publish`] only.
    ///
    /// # Errors
    /// [`HubError::License`], [`HubError::Artifact`] for an invalid artifact, [`HubError::Io`].
    pub fn new(publication: &Publication) -> Result<Self, HubError> {
        let Publication { artifact: folder, repository, license, sheet, images } = publication;
        let license = license.as_deref().map(checked_license).transpose()?;
        // An invalid artifact must not be found out by those who download it.
        let device = Device::flex();
        match is_bee(folder) {
            true => drop(BeeArtifact::load(folder, &device)?),
            false => drop(Artifact::load(folder, &device)?),
        }
        let card = published_card(
            folder,
            &Published {
                repository: &repository.to_string(),
                license: license.as_deref(),
                sheet: sheet.is_some().then_some(SHEET),
                images: images.as_deref(),
            },
        )?;
        let mut files = vec![
            UploadFile::new(MODEL, read(&folder.join(MODEL))?),
            UploadFile::new(CONFIG, read(&folder.join(CONFIG))?),
            UploadFile::new(RUN, read(&folder.join(RUN))?),
            UploadFile::new(CARD, card.into_bytes()),
        ];
        if let Some(sheet) = sheet {
            files.push(UploadFile::new(SHEET, read(sheet)?));
        }
        Ok(Self { repository: repository.clone(), licensed: license.is_some(), files })
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[UploadFile] {
        &self.files
    }

    /// The model card.
    #[must_use]
    pub fn card(&self) -> String {
        let card = self.files.iter().find(|file| file.name == CARD);
        card.map(|card| String::from_utf8_lossy(&card.bytes).into_owned()).unwrap_or_default()
    }

    /// The change of each file that publishing would make, in the order of [`Upload::files`]. Reads from the Hub only.
    ///
    /// # Errors
    /// [`HubError`] if the Hub cannot be asked.
    pub fn compare(&self, options: &PublishOptions, settings: &SourceSettings) -> Result<Vec<FileChange>, HubError> {
        if settings.hub.offline {
            return Err(HubError::Offline(self.repository.clone()));
        }
        let mut sleep = std::thread::sleep;
        let client = RepositoryClient::new(&self.repository, settings, &mut sleep)?.without_retries();
        let existing = match client.revision_info(options.revision.as_deref())? {
            Some(info) => client.files(&info.commit)?,
            None => BTreeMap::new(),
        };
        let change = |file: &UploadFile| match existing.get(file.name) {
            None => FileChange::Added,
            Some(entry) if file.matches(entry) => FileChange::None,
            Some(_) => FileChange::Replaced,
        };
        Ok(self.files.iter().map(change).collect())
    }

    /// Publishes in one commit the files that differ from the repository's, and compares the result. The repository is
    /// created if it does not exist.
    ///
    /// The commit names its parent: the Hub refuses it if the branch has moved. After an error the branch is checked, so
    /// that a commit that was made is not repeated.
    ///
    /// # Errors
    /// [`HubError::Unlicensed`]; [`HubError::NotPublished`] with the reason; [`HubError::Uncertain`] if the branch could not
    /// be checked after an error; [`HubError::Altered`].
    pub fn publish(&self, options: &PublishOptions, settings: &SourceSettings) -> Result<PublishOutcome, HubError> {
        self.publish_with_sleep(options, settings, &mut std::thread::sleep)
    }

    pub(super) fn publish_with_sleep(
        &self,
        options: &PublishOptions,
        settings: &SourceSettings,
        sleep: &mut dyn FnMut(Duration),
    ) -> Result<PublishOutcome, HubError> {
        if !self.licensed {
            return Err(HubError::Unlicensed);
        }
        if settings.hub.offline {
            return Err(HubError::Offline(self.repository.clone()));
        }
        let client = RepositoryClient::new(&self.repository, settings, sleep)?;
        let mut created = false;
        self.send(&client, options, &mut created).map_err(|error| match error {
            HubError::Uncertain { .. } | HubError::Altered { .. } => error,
            source => HubError::NotPublished { source: Box::new(source), created },
        })
    }

    fn send(
        &self,
        client: &RepositoryClient<'_>,
        options: &PublishOptions,
        created: &mut bool,
    ) -> Result<PublishOutcome, HubError> {
        let (main, new) = match client.revision_info(None)? {
            Some(info) => (info, false),
            None => {
                client.create(options.private)?;
                (self.existing(client, None)?, true)
            }
        };
        // Also of a new repository: somebody else may have created it at the same moment, and as a public one.
        if options.private && main.private != Some(true) {
            return Err(HubError::Public(self.repository.clone()));
        }
        *created = new;
        let branch = options.revision.as_deref().unwrap_or(MAIN);
        let parent = match &options.revision {
            None => main.commit,
            Some(_) => match client.revision_info(Some(branch))? {
                Some(info) => info.commit,
                None => {
                    client.create_branch(branch, &main.commit)?;
                    self.existing(client, Some(branch))?.commit
                }
            },
        };
        let changed = self.changed(&client.files(&parent)?);
        if changed.is_empty() {
            return Ok(PublishOutcome::Unchanged { reference: self.at(&parent) });
        }
        let commit = Commit { upload: self, options, branch, parent: &parent, changed: &changed, created: *created };
        client.retry(|| commit.attempt(client)).map_err(|failure| failure.error)
    }

    /// The files that differ from those of a commit.
    fn changed(&self, existing: &BTreeMap<String, FileEntry>) -> Vec<&UploadFile> {
        self.files.iter().filter(|file| !existing.get(file.name).is_some_and(|entry| file.matches(entry))).collect()
    }

    /// A branch that must exist.
    fn existing(&self, client: &RepositoryClient<'_>, branch: Option<&str>) -> Result<RevisionInfo, HubError> {
        let missing = || {
            HubError::NotFound(Reference { repository: self.repository.clone(), revision: branch.map(str::to_owned) })
        };
        client.revision_info(branch)?.ok_or_else(missing)
    }

    fn at(&self, commit: &str) -> Reference {
        Reference { repository: self.repository.clone(), revision: Some(commit.to_owned()) }
    }
}

/// The commit of an upload.
struct Commit<'a> {
    upload: &'a Upload,
    options: &'a PublishOptions,
    branch: &'a str,
    parent: &'a str,
    changed: &'a [&'a UploadFile],
    /// Whether the repository was created for it.
    created: bool,
}

/// An attempt that failed, after a check of the branch.
struct FailedAttempt {
    error: HubError,
    /// Whether another attempt is safe and may succeed.
    again: bool,
}

impl Retryable for FailedAttempt {
    fn is_transient(&self) -> bool {
        self.again
    }

    fn retry_after(&self) -> Option<Duration> {
        self.error.retry_after()
    }
}

impl From<HubError> for FailedAttempt {
    fn from(error: HubError) -> Self {
        Self { error, again: false }
    }
}

impl Commit<'_> {
    /// Commits once; after an error the branch shows whether the Hub has the commit.
    fn attempt(&self, client: &RepositoryClient<'_>) -> Result<PublishOutcome, FailedAttempt> {
        let Self { upload, options, branch, parent, changed, .. } = *self;
        let title = options.title.as_deref().unwrap_or("Publish an explainer");
        let files: Vec<(&str, &[u8])> = changed.iter().map(|file| (file.name, &file.bytes[..])).collect();
        let uncertain = |error, page: &str| HubError::Uncertain { source: Box::new(error), page: client.page(page) };
        let uncertain_branch = |error| uncertain(error, &format!("/commits/{branch}"));
        let error = match client.commit(branch, parent, title, &files, options.create_pr) {
            Ok(info) if options.create_pr => {
                let page = info.pr_url.unwrap_or_else(|| client.page("/discussions"));
                return Ok(PublishOutcome::Proposed { page, changed: self.names() });
            }
            Ok(info) => {
                let commit = match info.commit_oid {
                    Some(commit) => commit,
                    None => upload.existing(client, Some(branch)).map_err(uncertain_branch)?.commit,
                };
                self.verify(client, &commit)?;
                return Ok(self.published(client, &commit));
            }
            Err(error) => error,
        };
        let again = error.is_transient();
        if error.is_refusal() && !error.is_conflict() {
            return Err(FailedAttempt { error, again });
        }
        if options.create_pr && !error.is_conflict() {
            // There may be a pull request already, and nothing would prevent a second one.
            return Err(uncertain(error, "/discussions").into());
        }
        let info = match client.revision_info(Some(branch)) {
            Err(_) => return Err(uncertain_branch(error).into()),
            Ok(None) => return Err(error.into()),
            // The commit names this parent: if the first attempt is only late, the Hub refuses the second.
            Ok(Some(info)) if info.commit == parent => return Err(FailedAttempt { error, again }),
            Ok(Some(info)) => info,
        };
        match client.files(&info.commit) {
            Err(_) => Err(uncertain_branch(error).into()),
            Ok(existing) if upload.changed(&existing).is_empty() => Ok(self.published(client, &info.commit)),
            Ok(_) => Err(FailedAttempt::from(HubError::Moved {
                repository: upload.repository.clone(),
                revision: branch.to_owned(),
                expected: parent.to_owned(),
                found: info.commit,
            })),
        }
    }

    /// Checks that the Hub holds what was sent. No answer counts as no objection.
    fn verify(&self, client: &RepositoryClient<'_>, commit: &str) -> Result<(), HubError> {
        let Ok(existing) = client.files(commit) else { return Ok(()) };
        match self.upload.changed(&existing).first() {
            Some(file) => Err(HubError::Altered { reference: self.upload.at(commit), file: file.name.to_owned() }),
            None => Ok(()),
        }
    }

    fn published(&self, client: &RepositoryClient<'_>, commit: &str) -> PublishOutcome {
        PublishOutcome::Published {
            reference: self.upload.at(commit),
            page: client.page(&format!("/commit/{commit}")),
            changed: self.names(),
            created: self.created,
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.changed.iter().map(|file| file.name).collect()
    }
}

/// A licence identifier of the Hub: an SPDX identifier in lower case, or one of the Hub itself.
fn checked_license(given: &str) -> Result<String, HubError> {
    let license = given.trim().to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
    match (1..=64).contains(&license.len()) && license.chars().all(allowed) {
        true => Ok(license),
        false => Err(HubError::License(given.to_owned())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, HubError> {
    fs::read(path).map_err(|source| HubError::Io { action: "read", path: path.to_path_buf(), source })
}
