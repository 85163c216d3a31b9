//! Objects in the XML files of PASCAL VOC.
//!
//! Of XML only what these files use is understood: elements without attributes that matter, no namespaces.

use std::fs;
use std::path::Path;

use super::{Outline, Photo};

/// Folders of masks that may lie beside the folder of the XML files.
const MASKS: [&str; 2] = ["SegmentationObject", "SegmentationClass"];

/// Every `.xml` file of a folder.
pub(super) fn folder(path: &Path) -> Result<Vec<(String, Photo)>, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("cannot read: {error}"))?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")));
    files.sort();
    if files.is_empty() {
        return Err("found no .xml file in this folder".into());
    }
    let mut photos = Vec::new();
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        photos.extend(file(&path).map_err(|problem| format!("{name}: {problem}"))?);
    }
    Ok(photos)
}

/// One file: one photograph.
pub(super) fn file(path: &Path) -> Result<Vec<(String, Photo)>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read: {error}"))?;
    let name = first(&text, "filename").ok_or("found no <filename>; is it an annotation of VOC?")?;
    let side = |tag: &str| first(first(&text, "size")?, tag)?.parse::<u32>().ok().filter(|side| *side > 0);
    let mut photo = Photo { size: side("width").zip(side("height")).map(|(w, h)| [w, h]), ..Photo::default() };
    for object in all(&text, "object") {
        // Parts of an object have boxes of their own behind the object's.
        let sides = first(object, "bndbox").ok_or("an <object> has no <bndbox>")?;
        let edge = |tag: &str| {
            let value = first(sides, tag).and_then(|text| text.parse::<f64>().ok()).filter(|value| value.is_finite());
            value.ok_or_else(|| format!("a <bndbox> has no number in <{tag}>"))
        };
        // Pixels count from 1, and the last one belongs to the box.
        photo.boxes.push([edge("xmin")? - 1.0, edge("ymin")? - 1.0, edge("xmax")?, edge("ymax")?]);
    }
    let beside = path.parent().and_then(Path::parent);
    // Not the whole name: it may lead anywhere.
    let picture = Path::new(name).file_name().map(|file| Path::new(file).with_extension("png"));
    let mask = |folder: &&str| Some(beside?.join(folder).join(picture.as_ref()?));
    if let Some(mask) = MASKS.iter().filter_map(mask).find(|mask| mask.is_file()) {
        photo.outlines.push(Outline::Picture(mask));
    }
    Ok(vec![(name.to_owned(), photo)])
}

/// What stands in the first element of this name.
fn first<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    all(text, tag).next()
}

/// What stands in each element of this name, none of which is inside another.
fn all<'a>(text: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&open)?;
        let (inside, after) = behind.split_once(&close)?;
        rest = after;
        Some(inside.trim())
    })
}
