//! `metrics.jsonl`: one JSON object a line, always appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FitError;
use crate::distributed::ProcessGroup;

/// The log of a run, written by rank 0. All ranks call [`MetricsLog::write`], so that a failure ends all of them.
#[derive(Debug)]
pub(super) struct MetricsLog {
    path: PathBuf,
    /// On rank 0.
    file: Option<File>,
    group: Arc<ProcessGroup>,
}

impl MetricsLog {
    /// Opens `metrics.jsonl` in `folder`, behind the lines of earlier processes of this run.
    ///
    /// # Errors
    /// [`FitError::Output`].
    pub fn open(folder: &Path, group: &Arc<ProcessGroup>) -> Result<Self, FitError> {
        let path = folder.join("metrics.jsonl");
        let file = group.is_main().then(|| open(&path)).transpose();
        let file = group.all_ok(file.map_err(|source| FitError::Output { path: path.clone(), source }))?;
        Ok(Self { path, file, group: group.clone() })
    }

    /// Writes one whole line and returns when the operating system has it.
    ///
    /// # Errors
    /// [`FitError::Output`].
    pub fn write(&mut self, line: &serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()));
        self.group.all_ok(written.map_err(|source| FitError::Output { path: self.path.clone(), source }))
    }

    /// Forces all lines to the disk. A checkpoint follows: steps before it are not repeated, nor are their lines. No
    /// collective.
    ///
    /// # Errors
    /// [`FitError::Output`].
    pub fn sync(&self) -> Result<(), FitError> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|source| FitError::Output { path: self.path.clone(), source })
    }
}

/// Opens the log at `path` for appending. A last line without an end, of a process that was killed or found the disk full,
/// is ended, so that the next line is whole.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_a_line_without_an_end_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for text in ["{}\n", "{}\n{\"st", "{}\n"] {
            open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{}\n{\"st\n{}\n");
        let group = ProcessGroup::single();
        let mut log = MetricsLog::open(folder.path(), &group).unwrap();
        log.write(&serde_json::json!({"step": 1})).unwrap();
        log.sync().unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("{\"step\":1}\n"));
        assert!(MetricsLog::open(&folder.path().join("nowhere"), &group).is_err());
    }
}
