//! Objects in COCO's JSON files.
//!
//! Converters and label tools write odd entries: these are left out and counted. Ids may be numbers or text.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::annotation::{Annotation, LeftOut, Outline, Read};
use super::text;

/// The largest number of cells of a run-length mask: as many as an image may have pixels.
const MAX_CELLS: usize = 1 << 28;

#[derive(Deserialize)]
struct Coco {
    images: Vec<Lenient<Image>>,
    annotations: Vec<Lenient<Entry>>,
}

/// A value of this type, or any other one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Valid(T),
    Odd(Value),
}

#[derive(Deserialize)]
struct Image {
    id: Value,
    file_name: String,
    #[serde(default)]
    width: Value,
    #[serde(default)]
    height: Value,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    image_id: Value,
    /// x, y, width, height.
    #[serde(default)]
    bbox: Value,
    segmentation: Option<Lenient<Segmentation>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Segmentation {
    /// Polygons, each with x and y of its corners in turn.
    Polygons(Vec<Vec<f64>>),
    /// One polygon.
    Polygon(Vec<f64>),
    /// Height and width, and numbers of cells outside and inside in turn, column by column.
    Runs { size: [usize; 2], counts: Counts },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Plain(Vec<usize>),
    Packed(String),
}

/// The annotations of a file. Crowd regions count as objects.
pub(super) fn read(path: &Path) -> Result<Read, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read: {error}"))?;
    let coco: Coco = serde_json::from_str(&text(&bytes)).map_err(|error| format!("not a COCO file: {error}"))?;
    let mut left_out = LeftOut::default();
    let mut images: HashMap<String, (String, Annotation)> = HashMap::new();
    for (index, image) in coco.images.into_iter().enumerate() {
        match image {
            Lenient::Valid(Image { id, file_name, width, height }) if key(&id).is_some() => {
                let size = number(&width).zip(number(&height)).filter(|(w, h)| w.min(*h) >= 1.0);
                let size = size.map(|(w, h)| [w.round() as u32, h.round() as u32]);
                images.insert(key(&id).unwrap_or_default(), (file_name, Annotation { size, ..Annotation::default() }));
            }
            Lenient::Valid(Image { id, .. }) => left_out.add(|| format!("image {index} has the id {id}")),
            Lenient::Odd(_) => left_out.add(|| format!("image {index} has no id and file_name")),
        }
    }
    for (index, entry) in coco.annotations.into_iter().enumerate() {
        let Lenient::Valid(entry) = entry else {
            left_out.add(|| format!("annotation {index} is no set of keys"));
            continue;
        };
        let mut problem = |problem: &str| left_out.add(|| format!("annotation {index} (id {}): {problem}", entry.id));
        let Some((_, annotation)) = key(&entry.image_id).and_then(|id| images.get_mut(&id)) else {
            problem(&format!("no image has the id {}", entry.image_id));
            continue;
        };
        match bbox(&entry.bbox) {
            Ok(found) => annotation.boxes.extend(found),
            Err(wrong) => problem(&wrong),
        }
        for outline in entry.segmentation.map(outlines).unwrap_or_default() {
            match outline {
                Ok(outline) => annotation.outlines.push(outline),
                Err(wrong) => problem(&wrong),
            }
        }
    }
    Ok(Read { annotations: images.into_values().collect(), left_out })
}

/// An id, be it a number or text.
fn key(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 9e15);
            number.as_i64().map(|id| id.to_string()).or_else(|| whole.map(|id| (id as i64).to_string()))
        }
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// A finite number, be it written as text.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Left, top, right, bottom; `None` if there is no box.
fn bbox(value: &Value) -> Result<Option<[f64; 4]>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(number).collect());
    match numbers.as_deref() {
        Some([x, y, width, height]) if *width > 0.0 && *height > 0.0 => Ok(Some([*x, *y, x + width, y + height])),
        _ => Err(format!("its bbox is {value}, expected [x, y, width, height]")),
    }
}

/// The outlines of a segmentation, each alone: an odd polygon does not cost the others.
fn outlines(segmentation: Lenient<Segmentation>) -> Vec<Result<Outline, String>> {
    let polygon = |corners: &[f64]| {
        let (corners, rest) = corners.as_chunks::<2>();
        match corners.len() >= 3 && rest.is_empty() && corners.as_flattened().iter().all(|value| value.is_finite()) {
            true => Ok(Outline::Polygon(corners.to_vec())),
            false => Err("a polygon has fewer than three corners, or half of one".to_owned()),
        }
    };
    match segmentation {
        Lenient::Valid(Segmentation::Polygons(polygons)) => polygons.iter().map(|corners| polygon(corners)).collect(),
        Lenient::Valid(Segmentation::Polygon(corners)) => vec![polygon(&corners)],
        Lenient::Valid(Segmentation::Runs { size, counts }) => vec![runs(size, counts)],
        Lenient::Odd(Value::Null) => Vec::new(),
        Lenient::Odd(_) => vec![Err("its segmentation is neither polygons nor run lengths".to_owned())],
    }
}

fn runs([height, width]: [usize; 2], counts: Counts) -> Result<Outline, String> {
    let counts = match counts {
        Counts::Plain(counts) => counts,
        Counts::Packed(packed) => unpack(&packed).ok_or("the packed run lengths are broken")?,
    };
    let cells = height.checked_mul(width).filter(|cells| *cells <= MAX_CELLS);
    let sum = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count));
    if cells.is_none() || cells != sum {
        return Err(format!("the run lengths do not add up to {height} x {width} cells"));
    }
    let ends = counts.iter().scan(0, |end, count| {
        *end += count;
        Some(*end)
    });
    Ok(Outline::Runs { width, height, ends: ends.collect() })
}

/// COCO's packed run lengths: five bits a character, lowest first, the sixth bit is set if more follow. From the fourth
/// number on the packed value is the difference to the number two places before.
fn unpack(text: &str) -> Option<Vec<usize>> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while bytes.len() > 0 {
        let (mut value, mut shift) = (0_i64, 0_u32);
        loop {
            let byte = i64::from(bytes.next()?.checked_sub(48).filter(|byte| *byte < 64)?);
            value |= (byte & 0x1f).checked_shl(shift).filter(|_| shift < 60)?;
            shift += 5;
            if byte & 0x20 == 0 {
                if byte & 0x10 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
        }
        if counts.len() > 2 {
            value = value.checked_add(*counts.get(counts.len() - 2)?)?;
        }
        counts.push(value);
    }
    counts.into_iter().map(|count| usize::try_from(count).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_run_lengths_are_those_of_coco() {
        // 6 is "6"; 40 is 8 + 32 and 1: "X1"; the fourth number is written as its difference to the second.
        assert_eq!(unpack("6").unwrap(), [6]);
        assert_eq!(unpack("X1").unwrap(), [40]);
        assert_eq!(unpack("5123").unwrap(), [5, 1, 2, 4]);
        assert_eq!(unpack("518N").unwrap_or_default(), Vec::<usize>::new(), "1 - 2 is no length");
        assert_eq!(unpack("518O").unwrap(), [5, 1, 8, 0]);
        assert!(unpack("X").is_none() && unpack("\u{1}").is_none());
    }
}
