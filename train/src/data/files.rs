//! Image files as an image set.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use explainer_zoo::image::{Crop, Pixels, Preprocessing, decode};

use super::list::{Class, Row, is_image};
use super::tool_files::is_tool_path;
use super::{DataError, ImageSet, folder, list};

/// A file and the index of its class, where it has one.
type File = (PathBuf, Option<usize>);

/// Image files. Every [`load`](ImageSet::load) decodes the file.
#[derive(Clone, Debug)]
pub struct FileSet {
    root: PathBuf,
    /// Relative to `root`, so that identifiers stay the same if the folder is moved.
    files: Vec<File>,
    classes: Vec<String>,
    preprocessing: Preprocessing,
}

impl FileSet {
    /// Opens a folder, a list file or a single image. No image is read.
    ///
    /// - *Folder*: flat, or one sub-folder a class; the class index is the position of the sub-folder in sorted order
    ///   (an empty one counts). Images are at any depth below, with the extensions jpg, jpeg, png or webp in any case.
    ///   Files and folders of tools are skipped: thumbnails, recycle bins, names that start with a dot.
    /// - *List*: a text file with `path`, `path,class` or `path class` a line, or a CSV with a header (`file,class`).
    ///   Paths are relative to the list's folder; if the first file is not there, but in the sub-folder named like the
    ///   list (`val/` for `val.csv`), relative to that. Classes are integers, or names, whose indices are
    ///   their sorted order. A listed file that does not exist is broken when it is loaded.
    ///
    /// # Errors
    /// A path that is missing or unreadable, a folder or list without images, a list line that cannot be parsed.
    pub fn open(path: &Path, preprocessing: Preprocessing) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.into(), source };
        let (root, files, classes) = if fs::metadata(path).map_err(unreadable)?.is_dir() {
            let scan = folder::scan(path)?;
            let below = |file: PathBuf| file.strip_prefix(path).map(Path::to_path_buf).unwrap_or(file);
            let files: Vec<File> = scan.files.into_iter().map(|(file, class)| (below(file), class)).collect();
            (path.to_path_buf(), files, scan.classes)
        } else if is_image(path) {
            let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
            (root, vec![(path.file_name().unwrap_or_default().into(), None)], Vec::new())
        } else {
            let mut rows = list::parse(&fs::read_to_string(path).map_err(unreadable)?, path)?;
            rows.retain(|row| !is_tool_path(Path::new(&row.file)));
            resolve(rows, path)
        };
        if files.is_empty() {
            let expected = "expected .jpg, .jpeg, .png or .webp files, flat or in one sub-folder a class, \
                            or a list with one `path[,class]` a line";
            return Err(DataError::NoImages { path: path.into(), expected: expected.into() });
        }
        Ok(Self { root, files, classes, preprocessing })
    }

    /// The given files, without classes.
    #[must_use]
    pub fn of(files: Vec<PathBuf>, preprocessing: Preprocessing) -> Self {
        let files = files.into_iter().map(|file| (file, None)).collect();
        Self { root: PathBuf::new(), files, classes: Vec::new(), preprocessing }
    }

    /// The file of image `index`.
    #[must_use]
    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index].0)
    }
}

impl ImageSet for FileSet {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn id(&self, index: usize) -> String {
        self.files[index].0.display().to_string()
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.files[index].1
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
        let path = self.path(index);
        if matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound) {
            return Err(DataError::MissingImage { path });
        }
        Ok(self.preprocessing.apply(&decode(&path)?, crop)?)
    }
}

/// The folder of a list's files, their paths and class indices, and the names of the classes if the list has names.
fn resolve(rows: Vec<Row>, list: &Path) -> (PathBuf, Vec<File>, Vec<String>) {
    let beside = list.parent().unwrap_or(Path::new("")).to_path_buf();
    let below = beside.join(list.file_stem().unwrap_or_default());
    let in_below = |row: &Row| !beside.join(&row.file).exists() && below.join(&row.file).exists();
    let root = if rows.first().is_some_and(in_below) { below } else { beside };

    let names: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| if let Some(Class::Name(name)) = &row.class { Some(name.clone()) } else { None })
        .collect();
    let classes: Vec<String> = names.into_iter().collect();
    let index = |class| match class {
        Class::Index(index) => Some(index),
        Class::Name(name) => classes.binary_search(&name).ok(),
    };
    let files = rows.into_iter().map(|row| (PathBuf::from(row.file), row.class.and_then(index))).collect();
    (root, files, classes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use explainer_zoo::image::Filter;
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::data::Subset;

    fn preprocessing() -> Preprocessing {
        Preprocessing { resize: 8, crop: 8, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
    }

    fn save(root: &Path, name: &str, red: u8) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(10, 12, Rgb([red, 0, 0])).save(path).unwrap();
    }

    #[test]
    fn a_folder_of_classes_loads() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "cat/1.png", 255);
        save(root.path(), "ant/1.png", 51);
        let set = FileSet::open(root.path(), preprocessing()).unwrap();
        assert_eq!((set.len(), set.class(0), set.class(1)), (2, Some(0), Some(1)));
        assert_eq!(set.classes(), ["ant", "cat"]);
        assert!(set.name(1).ends_with("cat/1.png"));
        let ant = set.load(0, Crop::Centre).unwrap();
        assert_eq!((ant.height, ant.width, ant.values[0], ant.values[64]), (8, 8, 0.2, 0.0));
    }

    #[test]
    fn a_list_is_relative_to_itself_and_names_become_indices() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "in/a b.png", 1);
        fs::write(root.path().join("l.txt"), "in/a b.png,dog\n/abs/c.png,ant\nin/missing.png\n").unwrap();
        let set = FileSet::open(&root.path().join("l.txt"), preprocessing()).unwrap();
        assert_eq!((set.class(0), set.class(1), set.class(2)), (Some(1), Some(0), None));
        assert_eq!(
            (set.classes(), set.path(1)),
            (&["ant".to_owned(), "dog".to_owned()][..], PathBuf::from("/abs/c.png"))
        );
        set.load(0, Crop::Centre).unwrap();
        let error = set.load(2, Crop::Centre).unwrap_err().to_string();
        assert!(error.contains("in/missing.png: no such file"), "{error}");
    }

    #[test]
    fn files_of_tools_in_a_list_are_skipped() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("l.txt"), "a/1.jpg\na/@eaDir/1.jpg/THUMB.jpg\n./a/._1.jpg\n./a/2.JPG\n").unwrap();
        let set = FileSet::open(&root.path().join("l.txt"), preprocessing()).unwrap();
        assert_eq!((0..set.len()).map(|index| set.id(index)).collect::<Vec<_>>(), ["a/1.jpg", "./a/2.JPG"]);
    }

    #[test]
    fn a_csv_may_lie_beside_the_folder_of_its_name() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "val/a.png", 1);
        fs::write(root.path().join("val.csv"), "file,class_index,name\na.png,17,jay\n").unwrap();
        let set = FileSet::open(&root.path().join("val.csv"), preprocessing()).unwrap();
        assert_eq!((set.class(0), set.classes().len()), (Some(17), 0));
        set.load(0, Crop::Centre).unwrap();
    }

    #[test]
    fn sets_differ_by_their_names_and_order() {
        let digest = |names: &[&str]| FileSet::of(names.iter().map(PathBuf::from).collect(), preprocessing()).digest();
        assert_eq!(digest(&["a", "bc"]).len(), 64);
        assert_eq!(digest(&["a", "bc"]), digest(&["a", "bc"]));
        for other in [&["bc", "a"][..], &["ab", "c"], &["a", "bd"], &["a"], &[]] {
            assert_ne!(digest(&["a", "bc"]), digest(other), "{other:?}");
        }
    }

    #[test]
    fn a_set_is_the_same_in_any_folder() {
        let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for root in &roots {
            save(root.path(), "a/1.png", 1);
            save(root.path(), "b/2.png", 2);
            fs::write(root.path().join("l.txt"), "b/2.png\n./a/1.png\n/abs/c.png\n").unwrap();
        }
        for place in ["", "l.txt", "a/1.png"] {
            let [one, other] = roots.each_ref().map(|root| {
                let path = if place.is_empty() { root.path().to_path_buf() } else { root.path().join(place) };
                FileSet::open(&path, preprocessing()).unwrap()
            });
            assert_ne!(one.name(0), other.name(0), "messages have the whole path");
            assert_eq!(one.digest(), other.digest(), "{place:?}");
        }
        let list = FileSet::open(&roots[0].path().join("l.txt"), preprocessing()).unwrap();
        assert_eq!([0, 1, 2].map(|index| list.id(index)), ["b/2.png", "./a/1.png", "/abs/c.png"]);
        let whole: Arc<dyn ImageSet> = Arc::new(FileSet::open(roots[0].path(), preprocessing()).unwrap());
        assert_eq!(Subset::sample(whole.clone(), 2, 0).digest(), whole.digest());
    }

    #[test]
    fn one_image_is_a_set_and_broken_images_are_named() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "a.png", 9);
        assert_eq!(FileSet::open(&root.path().join("a.png"), preprocessing()).unwrap().len(), 1);
        fs::write(root.path().join("b.jpg"), b"\xFF\xD8\xFF\xE0 not a photograph").unwrap();
        let set = FileSet::of(vec![root.path().join("b.jpg")], preprocessing());
        let error = set.load(0, Crop::Centre).unwrap_err().to_string();
        assert!(error.contains("b.jpg"), "{error}");
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let problem = |path: &Path| FileSet::open(path, preprocessing()).unwrap_err().to_string();
        let here = root.path().display().to_string();
        assert!(problem(root.path()).contains(&format!("{here}: found no image")));
        assert!(problem(&root.path().join("nowhere")).contains("nowhere: cannot read"));
        fs::write(root.path().join("empty.txt"), "# nothing\n").unwrap();
        assert!(problem(&root.path().join("empty.txt")).contains("empty.txt: found no image"));
        fs::write(root.path().join("binary.txt"), [0xFF, 0xFE, 0]).unwrap();
        assert!(problem(&root.path().join("binary.txt")).contains("binary.txt: cannot read"));
    }
}
