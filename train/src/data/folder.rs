//! Image folders: flat, or one sub-folder for each class.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DataError;
use super::list::is_image;
use super::tool_files::is_tool_name;

/// The images of a folder, and its classes if it has a sub-folder for each class.
#[derive(Debug)]
pub(super) struct Scan {
    /// Files in sorted order, with the index of their class.
    pub files: Vec<(PathBuf, Option<usize>)>,
    /// Names of the class folders in sorted order; empty for a flat folder.
    pub classes: Vec<String>,
}

/// Finds the images of a folder by their extension.
///
/// With images in the folder itself it is flat. Otherwise every sub-folder, an empty one too, is a class; its images
/// may lie at any depth. Order is by the bytes of the names. Files and folders of tools are skipped ([`is_tool_name`]).
/// Links are followed, but no folder is entered twice within a class.
pub(super) fn scan(root: &Path) -> Result<Scan, DataError> {
    let (folders, loose) = entries(root)?;
    let mut scan = Scan { files: Vec::new(), classes: Vec::new() };
    for (class, folder) in folders.iter().enumerate() {
        let mut entered = HashSet::from([canonical(root)?]);
        let mut found = Vec::new();
        walk(folder, &mut entered, &mut found)?;
        found.sort_unstable();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let (Some(image), Some(_)) = (loose.first(), found.first()) {
            let loose = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(DataError::MixedFolder { path: root.into(), loose, folder: name });
        }
        scan.files.extend(found.into_iter().map(|file| (file, Some(class))));
        scan.classes.push(name);
    }
    if !loose.is_empty() {
        scan.classes.clear();
        scan.files = loose.into_iter().map(|file| (file, None)).collect();
    }
    Ok(scan)
}

/// Adds the images at any depth below `folder`.
fn walk(folder: &Path, entered: &mut HashSet<PathBuf>, found: &mut Vec<PathBuf>) -> Result<(), DataError> {
    if !entered.insert(canonical(folder)?) {
        return Ok(()); // a link to a folder that was visited
    }
    let (folders, images) = entries(folder)?;
    found.extend(images);
    folders.iter().try_for_each(|folder| walk(folder, entered, found))
}

/// Sub-folders and images of a folder, each sorted.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let unreadable = |source| unreadable(folder, source);
    let (mut folders, mut images) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if is_tool_name(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(unreadable)?;
        // `is_dir` costs a system call, which only links need. A dangling link counts as a file, broken when it is read.
        if kind.is_dir() || kind.is_symlink() && path.is_dir() {
            folders.push(path);
        } else if is_image(&path) {
            images.push(path);
        }
    }
    folders.sort_unstable();
    images.sort_unstable();
    Ok((folders, images))
}

fn canonical(folder: &Path) -> Result<PathBuf, DataError> {
    folder.canonicalize().map_err(|source| unreadable(folder, source))
}

fn unreadable(path: &Path, source: io::Error) -> DataError {
    DataError::Unreadable { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn found(root: &Path) -> (Vec<(String, Option<usize>)>, Vec<String>) {
        let Scan { files, classes } = scan(root).unwrap();
        let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        (files.into_iter().map(|(path, class)| (relative(path), class)).collect(), classes)
    }

    #[test]
    fn flat_folders_are_sorted_and_other_files_ignored() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["b.PNG", "a.jpeg", "c.webp", "notes.txt", ".hidden.jpg", "thumbs/readme.md"]);
        let expected = ["a.jpeg", "b.PNG", "c.webp"].map(|name| (name.to_owned(), None));
        assert_eq!(found(root.path()), (expected.to_vec(), vec![]));
    }

    #[test]
    fn sub_folders_are_classes_in_sorted_order() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["hat/2.jpg", "dress/z.jpg", "dress/deep/er/a.jpg", "hat/1.jpg", "empty/readme", "x.csv"]);
        let expected = [("dress/deep/er/a.jpg", 0), ("dress/z.jpg", 0), ("hat/1.jpg", 2), ("hat/2.jpg", 2)];
        let expected = expected.map(|(name, class)| (name.to_owned(), Some(class)));
        assert_eq!(found(root.path()), (expected.to_vec(), ["dress", "empty", "hat"].map(String::from).to_vec()));
    }

    #[test]
    fn images_beside_class_folders_are_refused() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["dress/1.jpg", "sheet.png"]);
        let error = scan(root.path()).unwrap_err().to_string();
        assert!(error.contains("sheet.png") && error.contains("dress/"), "{error}");
    }

    #[test]
    fn files_of_tools_are_no_classes_and_no_images() {
        let root = tempfile::tempdir().unwrap();
        let tools = ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".ipynb_checkpoints"];
        touch(root.path(), &["flat/1.jpg", "flat/2.JPG", "flat/Thumbs.db", "flat/._1.jpg", "classes/a/1.JPEG"]);
        for tool in tools {
            let files = ["flat", "classes", "classes/a"].map(|at| format!("{at}/{tool}/1.jpg/thumbnail.jpg"));
            touch(root.path(), &files.each_ref().map(String::as_str));
        }
        let flat = ["1.jpg", "2.JPG"].map(|name| (name.to_owned(), None));
        assert_eq!(found(&root.path().join("flat")), (flat.to_vec(), vec![]));
        let classes = vec![("a/1.JPEG".to_owned(), Some(0))];
        assert_eq!(found(&root.path().join("classes")), (classes, vec!["a".to_owned()]));
    }

    #[cfg(unix)]
    #[test]
    fn link_loops_end() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["a/1.jpg", "a/in/2.jpg"]);
        symlink("..", root.path().join("a/up")).unwrap();
        symlink(".", root.path().join("a/in/self")).unwrap();
        symlink("../a", root.path().join("a/in/around")).unwrap();
        symlink("nowhere", root.path().join("a/lost.jpg")).unwrap();
        symlink("me.jpg", root.path().join("a/me.jpg")).unwrap();
        let names: Vec<_> = found(root.path()).0.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a/1.jpg", "a/in/2.jpg", "a/lost.jpg", "a/me.jpg"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["open/1.jpg", "shut/2.jpg"]);
        let shut = root.path().join("shut");
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read_dir(&shut).is_ok() {
            println!("skipped: this user may read everything");
        } else {
            let error = scan(root.path()).unwrap_err();
            assert!(matches!(&error, DataError::Unreadable { path, .. } if *path == shut), "{error}");
        }
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
        let missing = scan(&root.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing: cannot read the images"), "{missing}");
    }
}
