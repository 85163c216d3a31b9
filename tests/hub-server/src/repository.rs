//! A repository: commits, each a whole tree, and branches that point to them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Files by their paths.
pub type Tree = BTreeMap<String, File>;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Whether git holds a pointer in its place.
    pub large: bool,
}

impl File {
    /// A file that is large if its path says so.
    pub fn new(path: &str, content: Vec<u8>) -> Self {
        Self { content, large: is_large(path) }
    }

    /// git's object ID of the file, or of its LFS pointer.
    pub fn oid(&self) -> String {
        if self.large { git_oid(self.pointer().as_bytes()) } else { git_oid(&self.content) }
    }

    /// The entity tag of the file.
    pub fn tag(&self) -> String {
        if self.large { sha256(&self.content) } else { self.oid() }
    }

    /// LFS's pointer to it.
    pub fn pointer(&self) -> String {
        let (oid, size) = (sha256(&self.content), self.content.len());
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
    }
}

/// Whether `.gitattributes` of a new repository sends a path to LFS.
pub fn is_large(path: &str) -> bool {
    [".safetensors", ".bin", ".png", ".npy"].iter().any(|end| path.ends_with(end))
}

/// The SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_oid(content: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::from(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.digest().to_string()
}

struct Commit {
    title: String,
    parent: Option<String>,
    tree: Tree,
}

/// A repository.
pub struct Repository {
    /// Whether strangers may not see it.
    pub private: bool,
    commits: BTreeMap<String, Commit>,
    /// Commits by branch.
    branches: BTreeMap<String, String>,
    /// Pull requests so far.
    pub pulls: usize,
}

impl Repository {
    /// One with the commit that the Hub begins with.
    pub fn new(private: bool) -> Self {
        let (commits, branches) = (BTreeMap::new(), BTreeMap::new());
        let mut new = Self { private, commits, branches, pulls: 0 };
        let attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec();
        let tree = Tree::from([(".gitattributes".to_owned(), File::new(".gitattributes", attributes))]);
        new.commit("main", "initial commit", tree);
        new
    }

    /// Puts a commit on top of a branch, which is made if it is not there, and names it.
    pub fn commit(&mut self, branch: &str, title: &str, tree: Tree) -> String {
        let parent = self.branches.get(branch).cloned();
        let mut hash = sha1_smol::Sha1::from(format!("{} {parent:?} {branch} {title}", self.commits.len()));
        tree.iter().for_each(|(path, file)| hash.update(format!("{path} {}\n", file.oid()).as_bytes()));
        let oid = hash.digest().to_string();
        self.commits.insert(oid.clone(), Commit { title: title.to_owned(), parent, tree });
        self.branches.insert(branch.to_owned(), oid.clone());
        oid
    }

    /// A branch that begins at a commit.
    pub fn branch(&mut self, name: &str, commit: String) {
        self.branches.insert(name.to_owned(), commit);
    }

    /// Whether there is such a branch.
    pub fn has_branch(&self, name: &str) -> bool {
        self.branches.contains_key(name)
    }

    /// The commit that a branch or a commit's own name means.
    pub fn resolve(&self, revision: &str) -> Option<String> {
        let commit = self.commits.contains_key(revision).then(|| revision.to_owned());
        self.branches.get(revision).cloned().or(commit)
    }

    /// The files of a commit.
    pub fn files(&self, commit: &str) -> Option<&Tree> {
        self.commits.get(commit).map(|commit| &commit.tree)
    }

    /// Titles of a branch's commits, the latest first.
    pub fn titles(&self, branch: &str) -> Vec<String> {
        let mut titles = Vec::new();
        let mut next = self.branches.get(branch);
        while let Some(commit) = next.and_then(|oid| self.commits.get(oid)) {
            titles.push(commit.title.clone());
            next = commit.parent.as_ref();
        }
        titles
    }
}
