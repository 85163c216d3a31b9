//! Class names, by index.

use std::io;
use std::path::{Path, PathBuf};

/// One unique name per line, in the order of the class indices.
const IMAGENET: &str = include_str!("../assets/imagenet1k.txt");

/// Why a file of class names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClassesError {
    /// The file cannot be read, or is not UTF-8.
    #[error(
        "{}: cannot read the class names: {source}; expected a UTF-8 text file with one name per line",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A line without a name.
    #[error(
        "{}:{line}: the line is blank; expected one class name a line, in the order of the class indices",
        path.display()
    )]
    Blank {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The number of names is not that of the classes.
    #[error("found {found} class names, expected {expected}, one for each class of the classifier, in its order")]
    Count {
        /// Number of names.
        found: usize,
        /// Number of classes.
        expected: usize,
    },
}

/// The 1000 class names of ImageNet-1k (ILSVRC 2012) in the order of the class indices.
#[must_use]
pub fn imagenet() -> Vec<&'static str> {
    IMAGENET.lines().collect()
}

/// Reads a text file with one name per line, in the order of the class indices. A byte-order mark, white space around names
/// and blank lines at the end are ignored.
///
/// # Errors
/// [`ClassesError::Read`], [`ClassesError::Blank`].
pub fn read(path: &Path) -> Result<Vec<String>, ClassesError> {
    let text = std::fs::read_to_string(path).map_err(|source| ClassesError::Read { path: path.into(), source })?;
    let names: Vec<String> =
        text.trim_start_matches('\u{feff}').trim_end().lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(blank) => Err(ClassesError::Blank { path: path.into(), line: blank + 1 }),
        None => Ok(names),
    }
}

/// Checks that there are `classes` names.
///
/// # Errors
/// [`ClassesError::Count`].
pub fn check(names: &[String], classes: usize) -> Result<(), ClassesError> {
    if names.len() == classes {
        return Ok(());
    }
    Err(ClassesError::Count { found: names.len(), expected: classes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn imagenet_has_a_thousand_names_in_order() {
        let names = imagenet();
        assert_eq!((names.len(), names.iter().collect::<HashSet<_>>().len()), (1000, 1000));
        assert!(names.iter().all(|name| !name.is_empty() && name.trim() == *name));
        assert_eq!((names[0], names[207], names[999]), ("tench", "golden retriever", "toilet tissue"));
    }

    #[test]
    fn a_file_is_read_as_editors_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        std::fs::write(&path, "\u{feff}red fox\r\n ant\r\n\r\n").unwrap();
        let names = read(&path).unwrap();
        assert_eq!(names, ["red fox", "ant"]);
        check(&names, 2).unwrap();
        let message = check(&names, 3).unwrap_err().to_string();
        assert!(message.contains("found 2") && message.contains("expected 3"), "{message}");
    }

    #[test]
    fn a_blank_line_or_a_missing_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        assert!(read(&path).unwrap_err().to_string().contains("names.txt: cannot read"));
        std::fs::write(&path, "fox\n\nant\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("names.txt:2: the line is blank"));
    }
}
