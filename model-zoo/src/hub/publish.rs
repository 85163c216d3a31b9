//! An explainer onto the Hub: what is published, what of it is new there, and one commit of that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;

use super::remote::{Head, Listed, Remote};
use super::{HubError, Reference, Repository};
use crate::artifact::bee::{BeeArtifact, is_bee};
use crate::artifact::{Artifact, CARD, CONFIG, MODEL, Published, RUN, published_card};
use crate::weights::hash::{git_oid, pointer_oid, sha256};
use crate::weights::source::SourceSettings;

/// Name of the contact sheet in the repository.
pub const SHEET: &str = "contact_sheet.png";
/// The branch that is published to unless another is asked for.
const MAIN: &str = "main";

/// What is to be published, and as what.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Folder of the artifact.
    pub artifact: PathBuf,
    /// Where to.
    pub repository: Repository,
    /// Its licence as the Hub names it, such as `apache-2.0`.
    pub license: Option<String>,
    /// A contact sheet (PNG), if there is one.
    pub sheet: Option<PathBuf>,
    /// What the figures were measured on, if that is known.
    pub images: Option<String>,
}

/// How to publish.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Branch; `main` by default. One that is not there is made, beginning at `main`.
    pub revision: Option<String>,
    /// Make the repository private if it is yet to be made.
    pub private: bool,
    /// Open a pull request and leave the branch as it is.
    pub create_pr: bool,
    /// Title of the commit.
    pub title: Option<String>,
}

/// The files of a publication.
#[derive(Clone, Debug)]
pub struct Draft {
    repository: Repository,
    licensed: bool,
    files: Vec<DraftFile>,
}

/// A file of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftFile {
    /// Its name in the repository.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// What publishing a file would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The repository has no such file.
    Added,
    /// It has another file of this name.
    Replaced,
    /// It has the file.
    None,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A commit holds the files.
    Published {
        /// The repository, with the commit.
        reference: Reference,
        /// The commit's page.
        page: String,
        /// Names of the files that it changed.
        changed: Vec<&'static str>,
        /// Whether the repository was made.
        created: bool,
    },
    /// A pull request holds the files.
    Proposed {
        /// The pull request's page, or that of all.
        page: String,
        /// Names of the files that it changes.
        changed: Vec<&'static str>,
    },
    /// The repository has the very same files: there is no new commit.
    Unchanged {
        /// The repository, with the commit.
        reference: Reference,
    },
}

impl DraftFile {
    fn new(name: &'static str, bytes: Vec<u8>) -> Self {
        let sha256 = sha256(&bytes);
        Self { name, bytes, sha256 }
    }

    /// Whether this is the file that the Hub lists, be it in git or in LFS.
    fn is(&self, listed: &Listed) -> bool {
        let size = self.bytes.len() as u64;
        size == listed.size && (listed.oid == git_oid(&self.bytes) || listed.oid == pointer_oid(&self.sha256, size))
    }
}

impl Draft {
    /// Reads and checks the artifact, and writes its card for publication. A card that was edited keeps its text; the
    /// front matter is made anew. A missing licence is found by [`Draft::publish`] alone.
    ///
    /// # Errors
    /// [`HubError::License`], [`HubError::Artifact`] for an artifact that is not sound, [`HubError::Io`].
    pub fn new(publication: &Publication) -> Result<Self, HubError> {
        let Publication { artifact: folder, repository, license, sheet, images } = publication;
        let license = license.as_deref().map(checked_license).transpose()?;
        // Nobody is to find out after the download.
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
            DraftFile::new(MODEL, read(&folder.join(MODEL))?),
            DraftFile::new(CONFIG, read(&folder.join(CONFIG))?),
            DraftFile::new(RUN, read(&folder.join(RUN))?),
            DraftFile::new(CARD, card.into_bytes()),
        ];
        if let Some(sheet) = sheet {
            files.push(DraftFile::new(SHEET, read(sheet)?));
        }
        Ok(Self { repository: repository.clone(), licensed: license.is_some(), files })
    }

    /// What is published.
    #[must_use]
    pub fn files(&self) -> &[DraftFile] {
        &self.files
    }

    /// The model card.
    #[must_use]
    pub fn card(&self) -> String {
        let card = self.files.iter().find(|file| file.name == CARD);
        card.map(|card| String::from_utf8_lossy(&card.bytes).into_owned()).unwrap_or_default()
    }

    /// What publishing would do with each file, in their order. Asks the Hub once, and changes nothing.
    ///
    /// # Errors
    /// [`HubError`] where the Hub does not say.
    pub fn compare(&self, target: &Target, settings: &SourceSettings) -> Result<Vec<Change>, HubError> {
        if settings.hub.offline {
            return Err(HubError::Offline(self.repository.clone()));
        }
        let mut wait = std::thread::sleep;
        let mut remote = Remote::new(&self.repository, settings, &mut wait)?.hurried();
        let tree = match remote.head(target.revision.as_deref())? {
            Some(head) => remote.tree(&head.commit)?,
            None => BTreeMap::new(),
        };
        let change = |file: &DraftFile| match tree.get(file.name) {
            None => Change::Added,
            Some(listed) if file.is(listed) => Change::None,
            Some(_) => Change::Replaced,
        };
        Ok(self.files.iter().map(change).collect())
    }

    /// Publishes by one commit of what the repository does not have yet, and looks at what the Hub holds afterwards. A
    /// repository that is not there is made.
    ///
    /// The commit names its parent, so that it is refused if the branch moves in between. If the Hub fails in the middle
    /// the branch is looked at: what went through is not sent again, and what did not is.
    ///
    /// # Errors
    /// [`HubError::Unlicensed`]; [`HubError::NotPublished`] with the reason; [`HubError::Uncertain`] where the Hub could
    /// not be asked what became of the commit; [`HubError::Altered`].
    pub fn publish(&self, target: &Target, settings: &SourceSettings) -> Result<Outcome, HubError> {
        self.publish_with(target, settings, &mut std::thread::sleep)
    }

    pub(super) fn publish_with(
        &self,
        target: &Target,
        settings: &SourceSettings,
        wait: &mut dyn FnMut(Duration),
    ) -> Result<Outcome, HubError> {
        if !self.licensed {
            return Err(HubError::Unlicensed);
        }
        if settings.hub.offline {
            return Err(HubError::Offline(self.repository.clone()));
        }
        let mut remote = Remote::new(&self.repository, settings, wait)?;
        let mut created = false;
        let result = self.send(&mut remote, target, &mut created);
        result.map_err(|error| match error {
            HubError::Uncertain { .. } | HubError::Altered { .. } => error,
            source => HubError::NotPublished { source: Box::new(source), created },
        })
    }

    fn send(&self, remote: &mut Remote<'_>, target: &Target, created: &mut bool) -> Result<Outcome, HubError> {
        let main = match remote.head(None)? {
            Some(head) => self.as_private_as(target, head)?.commit,
            None => {
                remote.create(target.private)?;
                // Somebody else may have made it, and not as private, in the same moment.
                let head = self.as_private_as(target, self.found(remote, None)?)?;
                *created = true;
                head.commit
            }
        };
        let branch = target.revision.as_deref().unwrap_or(MAIN);
        let parent = match &target.revision {
            None => main,
            Some(_) => match remote.head(Some(branch))? {
                Some(head) => head.commit,
                None => {
                    remote.branch(branch, &main)?;
                    self.found(remote, Some(branch))?.commit
                }
            },
        };
        let tree = remote.tree(&parent)?;
        let changed = self.changed(&tree);
        if changed.is_empty() {
            return Ok(Outcome::Unchanged { reference: self.at(&parent) });
        }
        self.commit(remote, target, branch, &parent, &changed, *created)
    }

    fn commit(
        &self,
        remote: &mut Remote<'_>,
        target: &Target,
        branch: &str,
        parent: &str,
        changed: &[&DraftFile],
        created: bool,
    ) -> Result<Outcome, HubError> {
        let title = target.title.as_deref().unwrap_or("Publish an explainer");
        let files: Vec<(&str, &[u8])> = changed.iter().map(|file| (file.name, &file.bytes[..])).collect();
        let names = || changed.iter().map(|file| file.name).collect();
        let published = |remote: &Remote<'_>, commit: &str| Outcome::Published {
            reference: self.at(commit),
            page: remote.page(&format!("/commit/{commit}")),
            changed: names(),
            created,
        };
        let uncertain = |remote: &Remote<'_>, error| HubError::Uncertain {
            source: Box::new(error),
            place: remote.page(&format!("/commits/{branch}")),
        };
        let mut attempt = 0;
        loop {
            let error = match remote.commit(branch, parent, title, &files, target.create_pr) {
                Ok(info) if target.create_pr => {
                    let page = info.pr_url.unwrap_or_else(|| remote.page("/discussions"));
                    return Ok(Outcome::Proposed { page, changed: names() });
                }
                Ok(info) => {
                    let commit = match info.commit_oid {
                        Some(commit) => commit,
                        None => self.found(remote, Some(branch)).map_err(|error| uncertain(remote, error))?.commit,
                    };
                    self.verify(remote, &commit)?;
                    return Ok(published(remote, &commit));
                }
                Err(error) => error,
            };
            let again = if error.is_refusal() && !error.is_conflict() {
                error.is_transient()
            } else if target.create_pr && !error.is_conflict() {
                // There may be a pull request already, and nothing would stop a second one.
                return Err(HubError::Uncertain { source: Box::new(error), place: remote.page("/discussions") });
            } else {
                match remote.head(Some(branch)) {
                    Err(_) => return Err(uncertain(remote, error)),
                    // The commit names this very parent: if the first is only late, a second one is refused.
                    Ok(Some(head)) if head.commit == parent => error.is_transient(),
                    Ok(Some(head)) => match remote.tree(&head.commit) {
                        Err(_) => return Err(uncertain(remote, error)),
                        Ok(tree) if self.changed(&tree).is_empty() => return Ok(published(remote, &head.commit)),
                        Ok(_) => {
                            return Err(HubError::Moved {
                                repository: self.repository.clone(),
                                revision: branch.to_owned(),
                                expected: parent.to_owned(),
                                found: head.commit,
                            });
                        }
                    },
                    Ok(None) => false,
                }
            };
            if !again || !remote.pause(attempt, &error) {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Whether the Hub holds what was sent. Where it does not say, nothing speaks against it.
    fn verify(&self, remote: &mut Remote<'_>, commit: &str) -> Result<(), HubError> {
        let Ok(tree) = remote.tree(commit) else { return Ok(()) };
        match self.changed(&tree).first() {
            Some(file) => Err(HubError::Altered { reference: self.at(commit), file: file.name.to_owned() }),
            None => Ok(()),
        }
    }

    /// The files that a commit does not hold.
    fn changed(&self, tree: &BTreeMap<String, Listed>) -> Vec<&DraftFile> {
        self.files.iter().filter(|file| !tree.get(file.name).is_some_and(|listed| file.is(listed))).collect()
    }

    /// The repository, unless a private one is asked for and it is not known to be.
    fn as_private_as(&self, target: &Target, head: Head) -> Result<Head, HubError> {
        match target.private && head.private != Some(true) {
            true => Err(HubError::Public(self.repository.clone())),
            false => Ok(head),
        }
    }

    /// A branch that must be there.
    fn found(&self, remote: &mut Remote<'_>, branch: Option<&str>) -> Result<Head, HubError> {
        let missing = || {
            HubError::NotFound(Reference { repository: self.repository.clone(), revision: branch.map(str::to_owned) })
        };
        remote.head(branch)?.ok_or_else(missing)
    }

    fn at(&self, commit: &str) -> Reference {
        Reference { repository: self.repository.clone(), revision: Some(commit.to_owned()) }
    }
}

/// A licence as the Hub names it: SPDX's names in small letters, or a name of the Hub's own.
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
