//! Atomic replacement of a set of files: a crash or a full disk leaves the old ones usable.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::ArtifactError;

/// Writes `files` (name, bytes) into `folder`, which is created if it does not exist.
///
/// Each file is written and synced under a temporary name; when all are written they are renamed, in the given order. An
/// error before (disk full, no permission) leaves the folder as it was. Other files in it are not touched.
pub(super) fn replace(folder: &Path, files: &[(&str, &[u8])]) -> Result<(), ArtifactError> {
    fs::create_dir_all(folder).map_err(ArtifactError::write(folder))?;
    let mut staged = Staged(Vec::new());
    for (name, bytes) in files {
        let temporary = folder.join(format!(".{name}.tmp-{}", std::process::id()));
        let target = folder.join(name);
        let mut file = File::create(&temporary).map_err(ArtifactError::write(&target))?;
        staged.0.push((temporary, target));
        let target = &staged.0[staged.0.len() - 1].1;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(ArtifactError::write(target))?;
    }
    for (temporary, target) in &staged.0 {
        fs::rename(temporary, target).map_err(ArtifactError::write(target))?;
    }
    sync_folder(folder)
}

/// Temporary files and their targets. Those that remain after an error are deleted.
struct Staged(Vec<(PathBuf, PathBuf)>);

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.0 {
            // After a rename there is nothing to delete; after an error only that error matters.
            fs::remove_file(temporary).ok();
        }
    }
}

/// Makes renames survive a power failure.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), ArtifactError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(ArtifactError::write(folder))
}

/// On this system a folder cannot be opened as a file.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), ArtifactError> {
    Ok(())
}
