//! `metrics.jsonl`: what a run tells while it goes on, one JSON object a line, for ever appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Opens the log at `path`, behind what earlier runs have written. A line that broke off, where one of them was killed or
/// the disk was full, is ended, so that no other is lost to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
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

/// Forces the log at `path` to the disk. A checkpoint behind it is where a run goes on from: steps before are not made
/// again, nor are their lines.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_one_that_broke_off_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for text in ["{}\n", "{}\n{\"st", "{}\n"] {
            open(&path).unwrap().write_all(text.as_bytes()).unwrap();
            sync(&path).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{}\n{\"st\n{}\n");
        assert!(sync(&folder.path().join("nowhere")).is_err());
    }
}
