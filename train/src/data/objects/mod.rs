//! Objects and fixations from annotation files, in pixels of the crop that the classifier gets.

mod annotation;
mod coco;
mod crop;
mod lookups;
mod table;
#[cfg(test)]
mod tests;
mod voc;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use explainer_metrics::{GroundTruth, PixelBox};
use explainer_zoo::image::{Preprocessing, decode, dimensions};

use super::DataError;
use annotation::{Annotation, Outline};
use crop::CropView;
use lookups::{Lookup, Lookups};

/// The colour of undecided pixels in VOC's masks.
const VOID: [u8; 3] = [224, 224, 192];

/// The content of annotation files.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    annotations: HashMap<String, Annotation>,
    /// Names in `annotations` by their last part; `None` if several share it.
    by_file: HashMap<String, Option<String>>,
    /// Names in `annotations` by their last part without its ending; `None` if several share it.
    by_stem: HashMap<String, Option<String>>,
    /// Warnings from reading.
    warnings: Vec<String>,
    lookups: Arc<Mutex<Lookups>>,
}

impl Objects {
    /// Reads annotations: a CSV file, a COCO file (`.json`), or VOC's (an `.xml` file, or a folder of them).
    ///
    /// - *CSV*: a header, then a line for each object. `image` (or `file`, `path`, `filename`), with `xmin`, `ymin`,
    ///   `xmax`, `ymax` of its box, or `mask`, a picture that is black outside the object (relative to the CSV's folder),
    ///   or both, or `x`, `y` of a fixation. In pixels of the upright image, the right and lower edge excluded.
    /// - *COCO*: `images` and `annotations` with `bbox` and `segmentation` (polygons or run lengths).
    /// - *VOC*: `filename`, `size` and each `object`'s `bndbox`; and its mask, if a folder `SegmentationObject` or
    ///   `SegmentationClass` is beside the folder of the XML files.
    ///
    /// All objects of an image count, whatever their class. Odd entries of COCO and VOC files are left out; see
    /// [`Objects::warnings`].
    ///
    /// # Errors
    /// [`DataError::Objects`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
        let read = match kind.as_str() {
            _ if path.is_dir() => voc::folder(path),
            "xml" => voc::file(path),
            "json" => coco::read(path),
            "csv" => table::read(path),
            _ => Err("expected a .csv, .json (COCO) or .xml (VOC) file, or a folder of .xml files".into()),
        };
        let read = read.map_err(|problem| DataError::Objects { path: path.into(), problem })?;
        let mut objects = Self::default();
        for (name, annotation) in read.annotations {
            objects.add(normalised(&name).into_owned(), annotation);
        }
        if let (count @ 1.., Some(example)) = (read.left_out.count, read.left_out.example) {
            let entries = if count == 1 { "entry was" } else { "entries were" };
            objects.warnings.push(format!("{}: {count} {entries} left out: {example}", path.display()));
        }
        Ok(objects)
    }

    /// Adds the annotations of `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (name, annotation) in other.annotations {
            self.add(name, annotation);
        }
        self.warnings.extend(other.warnings);
        self
    }

    fn add(&mut self, name: String, annotation: Annotation) {
        let file = name.rsplit('/').next().unwrap_or(&name);
        for (index, key) in [(&mut self.by_file, file), (&mut self.by_stem, stem(file))] {
            let same = index.entry(key.to_owned()).or_insert_with(|| Some(name.clone()));
            if same.as_ref().is_some_and(|other| *other != name) {
                *same = None;
            }
        }
        let known = self.annotations.entry(name).or_default();
        known.size = known.size.or(annotation.size);
        known.boxes.extend(annotation.boxes);
        known.outlines.extend(annotation.outlines);
        known.fixations.extend(annotation.fixations);
    }

    /// What the user should know: entries that were left out; few or no matches between the annotations and the images that
    /// were looked up; images whose size contradicts their annotation, which have no ground truth.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let example = self.annotations.keys().min();
        let lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        self.warnings.iter().cloned().chain(lookups.warnings(example.map(String::as_str))).collect()
    }

    /// The ground truth of the image at `path`, called `id` in its set, in pixels of its centre crop; empty if it is not
    /// annotated.
    ///
    /// The annotation is found by the name `id`, or else by the file's name, or else by that without its ending, if it is
    /// unique among the annotations.
    ///
    /// # Errors
    /// An image or mask that cannot be read.
    pub fn truth(&self, id: &str, path: &Path, preprocessing: &Preprocessing) -> Result<GroundTruth, DataError> {
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        self.truth_of(&[id], &file, || Ok(dimensions(path)?), preprocessing)
    }

    /// The same of an image with several names, of a file of this name, whose width and height `size` reads.
    pub(super) fn truth_of(
        &self,
        ids: &[&str],
        file: &str,
        size: impl FnOnce() -> Result<[u32; 2], DataError>,
        preprocessing: &Preprocessing,
    ) -> Result<GroundTruth, DataError> {
        let name = ids.first().copied().unwrap_or(file);
        if self.annotations.is_empty() {
            return Ok(GroundTruth::default());
        }
        let Some(annotation) = self.find(ids, file) else {
            self.log(name, Lookup::Missing);
            return Ok(GroundTruth::default());
        };
        let actual = size()?;
        let annotated = annotation.size.unwrap_or(actual);
        if !same_shape(annotated, actual) {
            self.log(name, Lookup::Contradiction { actual, annotated });
            return Ok(GroundTruth::default());
        }
        self.log(name, Lookup::Found);
        truth(annotation, annotated, preprocessing)
    }

    fn find(&self, ids: &[&str], file: &str) -> Option<&Annotation> {
        let by_name = ids.iter().find_map(|id| self.annotations.get(normalised(id).as_ref()));
        let unique = |index: &HashMap<String, Option<String>>, key: &str| {
            index.get(key).and_then(|name| self.annotations.get(name.as_ref()?))
        };
        by_name.or_else(|| match self.by_file.contains_key(file) {
            true => unique(&self.by_file, file),
            false => unique(&self.by_stem, stem(file)),
        })
    }

    fn log(&self, name: &str, lookup: Lookup) {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner).add(name, lookup);
    }
}

/// An annotation in pixels of the centre crop, of an image of this size (width, height).
fn truth(annotation: &Annotation, size: [u32; 2], preprocessing: &Preprocessing) -> Result<GroundTruth, DataError> {
    let view = CropView { placement: preprocessing.placement(size[0], size[1]), side: preprocessing.crop };
    let mut mask: Option<Vec<bool>> = None;
    for outline in &annotation.outlines {
        let mask = mask.get_or_insert_with(|| vec![false; view.side * view.side]);
        match outline {
            Outline::Polygon(corners) => view.fill(mask, corners),
            Outline::Runs { width: columns, height: rows, ends } => {
                let inside = |at: usize| {
                    let cell = at % columns * rows + at / columns;
                    ends.partition_point(|end| *end <= cell) % 2 == 1
                };
                view.copy(mask, size, [*columns, *rows], inside);
            }
            Outline::Picture(path) => {
                let picture = decode(path)?;
                let inside = |at: usize| {
                    let colour = picture.as_raw().get(3 * at..3 * at + 3);
                    colour.is_some_and(|colour| colour != [0; 3] && colour != VOID)
                };
                view.copy(mask, size, [picture.width() as usize, picture.height() as usize], inside);
            }
        }
    }
    let boxes: Vec<PixelBox> = annotation.boxes.iter().filter_map(|edges| view.area(*edges)).collect();
    let fixations = annotation.fixations.iter().filter_map(|point| view.pixel(*point)).collect();
    let around = || mask.as_deref().and_then(|mask| PixelBox::bounding(mask, view.side)).into_iter().collect();
    let boxes = if annotation.boxes.is_empty() { around() } else { boxes };
    // An object outside the crop does not count.
    let mask = mask.filter(|mask| mask.contains(&true));
    Ok(GroundTruth { boxes, mask, fixations })
}

/// A name with `/` between its parts and without `./` at its beginning: annotations come from other systems too.
fn normalised(name: &str) -> Cow<'_, str> {
    let name = name.trim_start_matches("./");
    if name.contains('\\') { name.replace('\\', "/").into() } else { name.into() }
}

/// A file's name without the ending of an image: `a.b` stays as it is, as names without an ending do.
fn stem(file: &str) -> &str {
    let image = |ending: &str| {
        ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    };
    file.rsplit_once('.').filter(|(stem, ending)| !stem.is_empty() && image(ending)).map_or(file, |(stem, _)| stem)
}

/// Whether one size is the other, or the other resized with its aspect ratio and rounded: then annotations scale.
fn same_shape(annotated: [u32; 2], actual: [u32; 2]) -> bool {
    let [[a, b], [c, d]] = [annotated, actual].map(|size| size.map(f64::from));
    annotated == actual || (d - b * c / a).abs() < 1.0 || (c - a * d / b).abs() < 1.0
}

/// The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().skip(1).map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units).into()
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest),
        [0xFF, 0xFE, ..] => utf16(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => utf16(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}
