//! Objects and fixations in CSV files.

use std::fs;
use std::path::Path;

use super::annotation::{Annotation, LeftOut, Outline, Read};
use super::text;

/// Header names of the column with the image.
const IMAGE: [&str; 4] = ["image", "file", "path", "filename"];
const BOX: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];
const POINT: [&str; 2] = ["x", "y"];

/// The image and the annotation of each line; an error names the line. Columns are separated by commas, semicolons or
/// tabs, whichever the header has most of.
pub(super) fn read(path: &Path) -> Result<Read, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read: {error}"))?;
    let content = text(&bytes);
    let first = content.lines().next().unwrap_or_default();
    let separators = [',', ';', '\t'].map(|separator| (first.matches(separator).count(), separator));
    let separator =
        separators.into_iter().rev().max_by_key(|(count, _)| *count).map_or(',', |(_, separator)| separator);
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).delimiter(separator as u8).from_reader(content.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let place = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let places = |names: &[&str]| names.iter().map(|name| place(name)).collect::<Option<Vec<_>>>();
    let (image, sides, mask, point) =
        (IMAGE.iter().find_map(|name| place(name)), places(&BOX), place("mask"), places(&POINT));
    let Some(image) = image.filter(|_| sides.is_some() || mask.is_some() || point.is_some()) else {
        let found = header.iter().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "found the columns {found}; expected image, with xmin, ymin, xmax and ymax, or mask, or x and y"
        ));
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |place: usize| record.get(place).unwrap_or_default();
        let number = |place: &usize| {
            let value = field(*place).parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| format!("line {line}: found `{}`, expected a number", field(*place)))
        };
        // A line may leave a group of columns empty.
        let numbers = |places: &Option<Vec<usize>>| {
            let given = places.as_ref().filter(|places| places.iter().any(|place| !field(*place).is_empty()));
            given.map(|places| places.iter().map(number).collect::<Result<Vec<f64>, String>>()).transpose()
        };
        let mut annotation = Annotation::default();
        if let Some([left, top, right, bottom]) = numbers(&sides)?.as_deref() {
            if right <= left || bottom <= top {
                return Err(format!("line {line}: the box ends before it begins: {left}, {top}, {right}, {bottom}"));
            }
            annotation.boxes.push([*left, *top, *right, *bottom]);
        }
        if let Some([x, y]) = numbers(&point)?.as_deref() {
            annotation.fixations.push([*x, *y]);
        }
        if let Some(mask) = mask.map(field).filter(|mask| !mask.is_empty()) {
            annotation.outlines.push(Outline::Picture(path.parent().unwrap_or(Path::new("")).join(mask)));
        }
        rows.push((field(image).to_owned(), annotation));
    }
    Ok(Read { annotations: rows, left_out: LeftOut::default() })
}
