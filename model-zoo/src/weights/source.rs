//! Where the weights of a backbone come from, and how they get to a local file whose SHA-256 is known and checked.

mod download;
mod error;
mod hub;
mod parse;
mod settings;

use std::path::{Path, PathBuf};

pub(crate) use download::root_cause;
pub use error::WeightSourceError;
pub(crate) use hub::client as hub_client;
pub use settings::{HubSettings, SourceSettings};

use super::hash::{digits_in_name, is_sha256, sha256_file};

/// Where the weights of a backbone come from: the value of the configuration key `backbone.weights`.
///
/// Written and parsed as in [`WeightSource::FORMS`]; the text of a source parses to the same source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightSource {
    /// A local file. A file that is called `embedded` or `random` is written `./embedded`.
    File(PathBuf),
    /// A file on the Hugging Face Hub.
    Hub(HubFile),
    /// An `https://` address, or `http://` on this machine. Needs a SHA-256, from the configuration or in its name.
    Https(String),
    /// The weights that are compiled into this crate.
    Embedded,
    /// Random weights, for tests and timings.
    Random {
        /// Seed of the random numbers.
        seed: u64,
    },
}

/// One file of a model repository on the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// The user or organisation.
    pub owner: String,
    /// The repository's name.
    pub name: String,
    /// Branch, tag or commit; the Hub's default is `main`. A `/` inside it is written `%2F`.
    pub revision: Option<String>,
    /// Path of the file inside the repository.
    pub file: String,
}

/// Weights in a local file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The local file.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its origin, as exactly as known: the path, the address, or `hf://` with the commit.
    pub origin: String,
}

/// A callback of a download: bytes so far, and their total if the server states it.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) + 'a;

/// The expected SHA-256 of a file.
struct Expected {
    /// Its first digits, 8 to 64 of them.
    digits: String,
    /// The origin of these digits, for error messages.
    authority: &'static str,
}

impl Expected {
    /// Compares with the SHA-256 `found` of `file`.
    fn check(&self, file: &str, found: &str) -> Result<(), WeightSourceError> {
        if found.starts_with(&self.digits) {
            return Ok(());
        }
        Err(WeightSourceError::Mismatch {
            file: file.to_owned(),
            found: found.to_owned(),
            expected: self.digits.clone(),
            authority: self.authority,
        })
    }
}

impl WeightSource {
    /// The forms that a source can be written in.
    pub const FORMS: &str = "a path to a .safetensors, .pth or .pt file, hf://owner/name[@revision][/file], \
                             https://... (with backbone.sha256), embedded, or random[:SEED]";

    /// Checks a source and the configured `sha256` without a file or the network.
    ///
    /// # Errors
    /// An invalid SHA-256, an address without one, or a SHA-256 for weights that are not a file.
    pub fn check(&self, sha256: Option<&str>) -> Result<(), WeightSourceError> {
        match (self, self.expected(sha256)?) {
            (Self::Https(url), None) => Err(WeightSourceError::Unverified(url.clone())),
            (Self::Embedded | Self::Random { .. }, Some(_)) => Err(WeightSourceError::NoFile(self.clone())),
            _ => Ok(()),
        }
    }

    /// Finds the file, or downloads it into a cache, and checks its SHA-256 against the configured `sha256`, the digits in
    /// an address's file name, and the Hub's.
    ///
    /// A cached download is used without the network. A file of the Hub is looked up again unless its revision is a commit;
    /// if the Hub cannot be reached, the cached file is used.
    ///
    /// # Errors
    /// See [`WeightSourceError`]; [`WeightSourceError::NoFile`] for `embedded` and `random` weights.
    pub fn resolve(
        &self,
        sha256: Option<&str>,
        settings: &SourceSettings,
        progress: &mut Progress<'_>,
    ) -> Result<Resolved, WeightSourceError> {
        let expected = self.expected(sha256)?;
        let resolved = match self {
            Self::File(path) => {
                Resolved { path: path.clone(), sha256: sha256_file(regular(path)?)?, origin: self.to_string() }
            }
            Self::Hub(file) => hub::fetch(file, settings, progress)?,
            Self::Https(url) => {
                let expected = expected.as_ref().ok_or_else(|| WeightSourceError::Unverified(url.clone()))?;
                download::fetch(url, expected, settings, progress)?
            }
            Self::Embedded | Self::Random { .. } => return Err(WeightSourceError::NoFile(self.clone())),
        };
        if let Some(expected) = expected {
            expected.check(&resolved.path.display().to_string(), &resolved.sha256)?;
        }
        Ok(resolved)
    }

    fn expected(&self, sha256: Option<&str>) -> Result<Option<Expected>, WeightSourceError> {
        if let Some(given) = sha256 {
            let digits = given.to_ascii_lowercase();
            if !is_sha256(&digits) {
                return Err(WeightSourceError::Sha256Syntax(given.to_owned()));
            }
            return Ok(Some(Expected { digits, authority: "backbone.sha256" }));
        }
        let Self::Https(url) = self else { return Ok(None) };
        let digits = digits_in_name(parse::file_name(url)).map(str::to_owned);
        Ok(digits.map(|digits| Expected { digits, authority: "its file name (backbone.sha256 overrides it)" }))
    }
}

/// Refuses devices and pipes, which may be endless: a foreign artifact may name one.
fn regular(path: &Path) -> Result<&Path, WeightSourceError> {
    let failed = |source| WeightSourceError::io("read", path, source);
    match path.metadata().map_err(failed)?.is_file() {
        true => Ok(path),
        false => Err(failed(std::io::Error::other("it is not a regular file"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn resolve(source: &str, sha256: Option<&str>) -> Result<Resolved, WeightSourceError> {
        let source: WeightSource = source.parse()?;
        source.resolve(sha256, &SourceSettings::from_env(), &mut |_, _| {})
    }

    #[test]
    fn a_file_is_hashed_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc.pth");
        std::fs::write(&path, "abc").unwrap();
        let given = path.to_str().unwrap();

        let expected = Resolved { path: path.clone(), sha256: ABC.to_owned(), origin: given.to_owned() };
        assert_eq!(resolve(given, None).unwrap(), expected);
        assert_eq!(resolve(given, Some(&ABC.to_uppercase())).unwrap(), expected);

        let other = ABC.replace("ba78", "ba79");
        let error = resolve(given, Some(&other)).unwrap_err().to_string();
        assert!(error.contains(given) && error.contains(ABC) && error.contains(&other), "{error}");
        assert!(error.contains("backbone.sha256"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = resolve("/nonexistent/vgg16.pth", None).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/vgg16.pth"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_refused() {
        let error = resolve("/dev/zero", None).unwrap_err().to_string();
        assert!(error.contains("/dev/zero") && error.contains("regular file"), "{error}");
    }

    #[test]
    fn sources_are_checked_without_the_network() {
        fn check(source: &str, sha256: Option<&str>) -> Result<(), WeightSourceError> {
            source.parse::<WeightSource>()?.check(sha256)
        }
        assert!(check("https://example.org/net-c867db91.pth?raw=1", None).is_ok());
        assert!(check("https://example.org/net.pth", Some(ABC)).is_ok());
        assert!(check("a.pth", None).is_ok() && check("random", None).is_ok());
        let error = check("https://example.org/net.pth", None).unwrap_err().to_string();
        assert!(error.contains("https://example.org/net.pth") && error.contains("backbone.sha256"), "{error}");
        for wrong in ["", "c867db91", &format!("{ABC}0"), &ABC.replace('b', "x")] {
            assert!(
                matches!(check("a.pth", Some(wrong)), Err(WeightSourceError::Sha256Syntax(found)) if found == wrong)
            );
        }
        assert!(matches!(check("random:3", Some(ABC)), Err(WeightSourceError::NoFile(_))));
    }

    #[test]
    fn weights_without_a_file_are_not_downloaded() {
        for source in ["embedded", "random:3"] {
            let error = resolve(source, None).unwrap_err().to_string();
            assert!(error.contains(source), "{error}");
        }
    }
}
