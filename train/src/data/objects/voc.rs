//! Objects in the XML files of PASCAL VOC and of the tools that write this format.

use std::fs;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::annotation::{Annotation, LeftOut, Outline, Read};
use super::text;

/// Folders of masks beside the folder of the XML files.
const MASKS: [&str; 2] = ["SegmentationObject", "SegmentationClass"];

/// Every `.xml` file of a folder. Files that cannot be read are left out unless that is all of them.
pub(super) fn folder(path: &Path) -> Result<Read, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("cannot read: {error}"))?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| {
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
    });
    files.sort();
    if files.is_empty() {
        return Err("found no .xml file in this folder".into());
    }
    let mut read = Read::default();
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match annotation(&path, &mut read.left_out) {
            Ok(annotation) => read.annotations.push(annotation),
            Err(problem) => read.left_out.add(|| format!("{name}: {problem}")),
        }
    }
    match (read.annotations.is_empty(), read.left_out.example.take()) {
        (true, Some(problem)) => Err(problem),
        (_, example) => Ok(Read { left_out: LeftOut { example, ..read.left_out }, ..read }),
    }
}

/// One file: one image.
pub(super) fn file(path: &Path) -> Result<Read, String> {
    let mut left_out = LeftOut::default();
    let annotations = vec![annotation(path, &mut left_out)?];
    Ok(Read { annotations, left_out })
}

fn annotation(path: &Path, left_out: &mut LeftOut) -> Result<(String, Annotation), String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read: {error}"))?;
    let text = text(&bytes);
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options).map_err(|error| format!("not XML: {error}"))?;
    let root = document.root_element();
    let name = child(root, "filename").map(value).filter(|name| !name.is_empty());
    let name = name.ok_or("found no <filename>; is it an annotation of VOC?")?;
    let side = |tag| number(child(root, "size")?, tag).filter(|side| *side >= 1.0).map(|side| side.round() as u32);
    let mut annotation =
        Annotation { size: side("width").zip(side("height")).map(|(w, h)| [w, h]), ..Annotation::default() };
    for (index, object) in root.children().filter(|node| node.has_tag_name("object")).enumerate() {
        // Parts of an object have boxes of their own, in its <part> elements.
        match child(object, "bndbox").and_then(edges) {
            Some(edges) => annotation.boxes.push(edges),
            None => left_out.add(|| {
                let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                format!("{file}: object {index} has no <bndbox> with four numbers that make a box")
            }),
        }
    }
    // The name may lead anywhere: only its last part counts.
    let picture = file_name(name).map(|file| Path::new(file).with_extension("png"));
    let beside = path.parent().and_then(Path::parent);
    let mask = |folder: &&str| Some(beside?.join(folder).join(picture.as_ref()?));
    if let Some(mask) = MASKS.iter().filter_map(mask).find(|mask| mask.is_file()) {
        annotation.outlines.push(Outline::Picture(mask));
    }
    Ok((name.to_owned(), annotation))
}

/// Left, top, right, bottom of a `<bndbox>`. Pixels count from 1, and the last one belongs to the box.
fn edges(bndbox: Node<'_, '_>) -> Option<[f64; 4]> {
    let [left, top] = [number(bndbox, "xmin")? - 1.0, number(bndbox, "ymin")? - 1.0];
    let [right, bottom] = [number(bndbox, "xmax")?, number(bndbox, "ymax")?];
    (left < right && top < bottom).then_some([left, top, right, bottom])
}

fn child<'a, 'input>(node: Node<'a, 'input>, tag: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.tag_name().name() == tag)
}

fn value<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

fn number(node: Node<'_, '_>, tag: &str) -> Option<f64> {
    value(child(node, tag)?).parse().ok().filter(|value: &f64| value.is_finite())
}

/// The last part of a path; `None` for none, such as `..` or `/`.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit(['/', '\\']).next().filter(|file| !matches!(*file, "" | "." | ".."))
}
