//! Objects in COCO's JSON files.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use super::{Outline, Photo};

/// The most pixels that run lengths may spread over: as many as a photograph may have.
const MOST: usize = 1 << 28;

#[derive(Deserialize)]
struct Coco {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    /// x, y, width, height.
    bbox: Option<[f64; 4]>,
    segmentation: Option<Segmentation>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Segmentation {
    /// x and y of the corners in turn.
    Polygons(Vec<Vec<f64>>),
    /// Height and width, and numbers of cells that are out and in, in turn, column by column.
    Runs { size: [usize; 2], counts: Counts },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Plain(Vec<usize>),
    Packed(String),
}

/// Photographs and what is known of each.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Photo)>, String> {
    let file = File::open(path).map_err(|error| format!("cannot read: {error}"))?;
    let coco: Coco =
        serde_json::from_reader(BufReader::new(file)).map_err(|error| format!("not a COCO file: {error}"))?;
    let mut photos: HashMap<u64, (String, Photo)> = HashMap::new();
    for Image { id, file_name, width, height } in coco.images {
        photos.insert(id, (file_name, Photo { size: Some([width.max(1), height.max(1)]), ..Photo::default() }));
    }
    for (index, annotation) in coco.annotations.into_iter().enumerate() {
        let wrong = |problem: &str| format!("annotation {index}: {problem}");
        let Some((_, photo)) = photos.get_mut(&annotation.image_id) else {
            return Err(wrong(&format!("no image has the id {}", annotation.image_id)));
        };
        if let Some([x, y, width, height]) = annotation.bbox {
            photo.boxes.push([x, y, x + width, y + height]);
        }
        match annotation.segmentation {
            None => {}
            Some(Segmentation::Polygons(polygons)) => {
                for corners in polygons {
                    let (corners, rest) = corners.as_chunks::<2>();
                    if corners.len() < 3 || !rest.is_empty() {
                        return Err(wrong("a polygon has fewer than three corners, or half of one"));
                    }
                    photo.outlines.push(Outline::Polygon(corners.to_vec()));
                }
            }
            Some(Segmentation::Runs { size: [height, width], counts }) => {
                let counts = match counts {
                    Counts::Plain(counts) => counts,
                    Counts::Packed(text) => unpack(&text).ok_or_else(|| wrong("the packed run lengths are broken"))?,
                };
                let cells = height.checked_mul(width).filter(|cells| *cells <= MOST);
                let sum = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count));
                if cells.is_none() || cells != sum {
                    return Err(wrong(&format!("the run lengths do not add up to {height} x {width} cells")));
                }
                let ends = counts.iter().scan(0, |end, count| {
                    *end += count;
                    Some(*end)
                });
                photo.outlines.push(Outline::Runs { width, height, ends: ends.collect() });
            }
        }
    }
    Ok(photos.into_values().collect())
}

/// COCO's packing of run lengths: five bits a character, lowest first, the sixth says that more follow; from the fourth
/// number on what is packed is the difference to the number two before.
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
