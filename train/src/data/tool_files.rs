//! Files and folders that tools leave among images: thumbnails, recycle bins, metadata of file managers.

use std::ffi::OsStr;
use std::path::{Component, Path};

/// Names of such files and folders that do not start with a dot, in lower case.
const NAMES: [&str; 19] = [
    // Network storage: Synology, QNAP.
    "@eadir",
    "@__thumb",
    "@recycle",
    "@recently-snapshot",
    "@sharebin",
    "@tmp",
    "#recycle",
    "#snapshot",
    // Windows.
    "$recycle.bin",
    "recycler",
    "system volume information",
    "thumbs.db",
    "desktop.ini",
    // macOS.
    "__macosx",
    "network trash folder",
    "temporary items",
    // Unix and Python.
    "lost+found",
    "__pycache__",
    "paxheaders",
];

/// Whether a file or folder of this name belongs to a tool and is no class and no image. Names that start with a dot are:
/// `._photo.jpg` (macOS), `.ipynb_checkpoints`, `.Trash-1000`, `.thumbnails`.
pub(super) fn is_tool_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a path leads through a file or folder of a tool. `.` and `..` are no such names.
pub(super) fn is_tool_path(path: &Path) -> bool {
    path.components().any(|part| matches!(part, Component::Normal(name) if is_tool_name(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_tools_are_known_by_their_names() {
        for path in [
            "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
            "__MACOSX/._1.jpg",
            "#recycle/1.jpg",
            "$RECYCLE.BIN/1.jpg",
            "Thumbs.db",
            "cat/._1.jpg",
            "./.ipynb_checkpoints/1-checkpoint.jpg",
            "THUMBS.DB",
        ] {
            assert!(is_tool_path(Path::new(path)), "{path}");
        }
        for path in ["cat/1.jpg", "./cat/1.JPG", "../a/1.jpg", "/b/@cat/1.jpg", "thumbs/1.jpg", "eaDir/1.jpg"] {
            assert!(!is_tool_path(Path::new(path)), "{path}");
        }
    }
}
