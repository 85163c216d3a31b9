//! Hashes that identify files: SHA-256, and the object names of git.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of one read: files of weights are too large to be held in memory.
pub(super) const CHUNK: usize = 1 << 18;
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// A file to be hashed cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}", path = .path.display())]
pub struct HashError {
    /// The file.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

/// The SHA-256 of a file's bytes as 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`HashError`] if the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, HashError> {
    let read = || {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(hex(hash)),
                count => hash.update(&chunk[..count]),
            }
        }
    };
    read().map_err(|source| HashError { path: path.to_path_buf(), source })
}

/// The SHA-256 of bytes in memory as 64 lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// The git object name of a file with these bytes: 40 lower-case hexadecimal digits. The Hub identifies by it the files
/// that are not in LFS.
pub(crate) fn git_oid(bytes: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::from(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.digest().to_string()
}

/// The git object name of the LFS pointer to a file of this SHA-256 and size in bytes.
pub(crate) fn pointer_oid(sha256: &str, size: u64) -> String {
    git_oid(format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n").as_bytes())
}

/// Whether `text` is the git object name of a commit or a file.
pub(crate) fn is_git_oid(text: &str) -> bool {
    text.len() == 40 && is_lower_hex(text)
}

/// The digest as lower-case hexadecimal digits.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` is a complete SHA-256: 64 lower-case hexadecimal digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == DIGITS && is_lower_hex(text)
}

/// The digits of a SHA-256 in a file name by torchvision's convention, `vit_b_16-c867db91.pth`: the first eight or more,
/// lower case, between the last `-` and the extension.
pub(super) fn digits_in_name(name: &str) -> Option<&str> {
    let (digits, _extension) = name.rsplit_once('-')?.1.split_once('.')?;
    ((8..=DIGITS).contains(&digits.len()) && is_lower_hex(digits)).then_some(digits)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_fips_180() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        // A million times the letter a: more than one chunk.
        std::fs::write(&path, vec![b'a'; 1_000_000]).unwrap();
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256_file(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = sha256_file(Path::new("/nonexistent/weights.pth")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/weights.pth") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn object_names_are_those_of_git() {
        // `printf abc | git hash-object --stdin`, and of `git lfs pointer` for the same file.
        assert_eq!(git_oid(b"abc"), "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
        let pointer = pointer_oid("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3);
        assert_eq!(pointer, "80d7d501c2b256023dc42e46d958b9ac2ec283ee");
        assert!(is_git_oid(&pointer) && !is_git_oid("main") && !is_git_oid(&pointer.to_uppercase()));
    }

    #[test]
    fn digits_in_file_names() {
        assert_eq!(digits_in_name("vit_b_16-c867db91.pth"), Some("c867db91"));
        assert_eq!(digits_in_name("mnasnet0.5_top1_67.823-3ffadce67e.pth"), Some("3ffadce67e"));
        assert_eq!(digits_in_name("net-c867db91.pth.tar"), Some("c867db91"));
        for name in ["resnet50.pth", "net-c867db9.pth", "net-C867DB91.pth", "vit-base-large.pth", "c867db91.pth", "a-b"]
        {
            assert_eq!(digits_in_name(name), None, "{name}");
        }
    }
}
