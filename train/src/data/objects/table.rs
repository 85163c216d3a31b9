//! Objects and fixations in CSV files.

use std::path::Path;

use super::{Outline, Photo};

/// Header names of the column with the photograph.
const PHOTO: [&str; 4] = ["image", "file", "path", "filename"];
const BOX: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];
const POINT: [&str; 2] = ["x", "y"];

/// A photograph and what one line knows of it, for each line; an error says which line is wrong.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Photo)>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| e.to_string())?;
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let place = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
    let places = |names: &[&str]| names.iter().map(|name| place(name)).collect::<Option<Vec<_>>>();
    let (photo, sides, mask, point) =
        (PHOTO.iter().find_map(|name| place(name)), places(&BOX), place("mask"), places(&POINT));
    let Some(photo) = photo.filter(|_| sides.is_some() || mask.is_some() || point.is_some()) else {
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
        let mut known = Photo::default();
        if let Some([left, top, right, bottom]) = numbers(&sides)?.as_deref() {
            if right <= left || bottom <= top {
                return Err(format!("line {line}: the box ends before it begins: {left}, {top}, {right}, {bottom}"));
            }
            known.boxes.push([*left, *top, *right, *bottom]);
        }
        if let Some([x, y]) = numbers(&point)?.as_deref() {
            known.fixations.push([*x, *y]);
        }
        if let Some(mask) = mask.map(field).filter(|mask| !mask.is_empty()) {
            known.outlines.push(Outline::Picture(path.parent().unwrap_or(Path::new("")).join(mask)));
        }
        rows.push((field(photo).to_owned(), known));
    }
    Ok(rows)
}
