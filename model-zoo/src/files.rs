//! Files that appear complete or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The operating system refused to write a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot write: {source}; check that the folder exists, is writable and has space left", path.display())]
pub struct WriteError {
    /// The file that was to be written; an older file of this name is untouched.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Writes `path` through a temporary file in the same folder that is renamed when `write` is done.
///
/// A reader never sees half a file, and a failure leaves an older file of this name as it was. The data is not forced
/// to the disk: after a power cut the file may be missing, and a report can be made again.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), WriteError> {
    try_write(path, write).map_err(|source| WriteError { path: path.into(), source })
}

fn try_write(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let temporary = builder().tempfile_in(folder_of(path))?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.persist(path)?;
    Ok(())
}

/// Temporary files are private by default; a result gets the rights of an ordinary new file.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the process's umask
    builder
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_older_file_and_no_debris() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.txt");
        write_atomic(&path, |out| out.write_all(b"old")).unwrap();
        let refused = write_atomic(&path, |out| {
            out.write_all(b"new, but")?;
            Err(io::Error::other("disk full"))
        });
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("result.txt") && message.contains("disk full"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("result.txt");
        let message = write_atomic(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("nowhere"), "{message}");
    }

    #[test]
    fn a_bare_file_name_means_the_current_folder() {
        assert_eq!(folder_of(Path::new("map.npy")), Path::new("."));
        assert_eq!(folder_of(Path::new("out/map.npy")), Path::new("out"));
    }

    #[cfg(unix)]
    #[test]
    fn results_have_the_rights_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, ordinary] = ["ours", "ordinary"].map(|name| folder.path().join(name));
        write_atomic(&ours, |_| Ok(())).unwrap();
        std::fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&ordinary));
    }
}
