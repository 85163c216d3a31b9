//! Output files that are complete or absent, and streams.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// An output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot write: {source}; check that the folder exists, is writable and has space left", path.display())]
pub struct WriteError {
    /// The output. An older file of this name is unchanged.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Writes `path` through a temporary file in the same folder, which is renamed when `write` is done.
///
/// No reader sees a partial file, and a failure leaves an older file of this name unchanged. The data is not forced to the
/// disk: after a power failure the file may be missing. The target of a symbolic link is replaced, and the link stays.
///
/// What is no regular file is written into: `-` (standard output), a FIFO, a device such as `/dev/null`, `/dev/stdout`.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), WriteError> {
    try_write(path, write).map_err(|source| WriteError { path: path.into(), source })
}

fn try_write(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    if let Some(stream) = stream(path)? {
        let mut writer = BufWriter::new(&stream);
        write(&mut writer)?;
        return writer.flush();
    }
    let path = &target(path);
    let temporary = builder().tempfile_in(folder_of(path))?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.persist(path)?;
    Ok(())
}

/// The path that stands for standard output.
pub const STDOUT: &str = "-";

/// Standard output, a FIFO or a device, opened for writing; `None` for a regular file or a new one.
fn stream(path: &Path) -> io::Result<Option<File>> {
    if path == Path::new(STDOUT) {
        return standard_output().map(Some);
    }
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    // Standard output that was redirected to a file is one: to replace the file would lose what was written before.
    let descriptor = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|known| path.starts_with(known));
    if special || descriptor { OpenOptions::new().append(true).open(path).map(Some) } else { Ok(None) }
}

#[cfg(unix)]
fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn standard_output() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    io::stdout().as_handle().try_clone_to_owned().map(File::from)
}

/// The file that a symbolic link leads to, over any number of links, whether it exists or not.
fn target(path: &Path) -> PathBuf {
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(next);
    }
    path
}

/// Temporary files are private by default; an output gets the permissions of an ordinary new file.
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
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
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
    fn the_target_of_a_link_is_replaced_and_the_link_stays() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        let [real, link, second] = ["real/a.json", "link.json", "second.json"].map(|name| folder.path().join(name));
        symlink("real/a.json", &link).unwrap();
        symlink("link.json", &second).unwrap();
        for text in ["new file", "old file"] {
            write_atomic(&second, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
            assert!(link.is_symlink() && second.is_symlink());
        }
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_into() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.is_ok_and(|status| status.success()));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read_to_string(&fifo).unwrap());
            write_atomic(&fifo, |out| out.write_all(b"{}")).unwrap();
            assert_eq!(reader.join().unwrap(), "{}");
        });
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        write_atomic(Path::new("/dev/null"), |out| out.write_all(b"{}")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn results_have_the_rights_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, ordinary] = ["ours", "ordinary"].map(|name| folder.path().join(name));
        write_atomic(&ours, |_| Ok(())).unwrap();
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&ordinary));
    }
}
