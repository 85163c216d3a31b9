//! The images on which the reference is worst, with every explainer's heat map.

use std::fs;
use std::path::Path;

use burn::train::Interrupter;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{ExplainBatch, ExplainError, Targets};
use explainer_zoo::image::{Crop, Pixels};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use serde::Serialize;

use super::error::CompareError;
use super::explainers::ComparedExplainer;
use super::journal::JournalRow;
use crate::data::EvaluationSet;
use crate::explain::ClassNames;
use crate::report::ReportError;
use crate::report::overlay::{OPACITY, overlay, picture};
use crate::report::progress::{bar, line};
use explainer_metrics::{Direction, MetricSpec};
use explainer_zoo::files::write_atomic;

/// Longest side of a picture, in pixels.
const SIDE: u32 = 224;
/// Quality of a JPEG, 1 to 100.
const QUALITY: u8 = 85;

/// Images with the heat maps of all explainers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gallery {
    /// The metric by which the images were chosen.
    pub metric: String,
    /// The images, the worst first.
    pub cases: Vec<GalleryImage>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GalleryImage {
    /// Its identifier in the set.
    pub image: String,
    /// Name of the predicted class, which is explained.
    pub class: String,
    /// The image as JPEG.
    #[serde(skip)]
    pub picture: Vec<u8>,
    /// For each explainer its value of the metric; `None` where it was not measured or is undefined.
    pub values: Vec<Option<f64>>,
    /// For each explainer its heat map over the image as JPEG; `None` where it was not measured.
    #[serde(skip)]
    pub maps: Vec<Option<Vec<u8>>>,
}

/// Indices of the `count` images with the worst values of a metric, the worst first; of equals the first first.
pub(super) fn worst(measured: &[JournalRow], metric: usize, spec: &MetricSpec, count: usize) -> Vec<usize> {
    let value = |one: &JournalRow| Some((one.values.get(metric).copied().flatten()?, one.index));
    let mut values: Vec<(f64, usize)> = measured.iter().filter_map(value).collect();
    values.sort_by(|a, b| match spec.better {
        Direction::Higher => a.0.total_cmp(&b.0),
        Direction::Lower => b.0.total_cmp(&a.0),
    });
    values.into_iter().take(count).map(|(_, index)| index).collect()
}

/// Draws the heat maps.
pub(super) struct Painter<'a> {
    /// Names of the classifier's classes.
    pub names: &'a ClassNames,
    pub images: &'a EvaluationSet,
    pub compute: &'a Compute,
    pub quiet: bool,
    pub interrupter: &'a Interrupter,
}

impl Painter<'_> {
    /// The gallery of the images `worst`. Each explainer has its `measured` values and a folder in which its pictures are kept.
    /// `None` if it was interrupted.
    pub fn paint(
        &self,
        worst: &[usize],
        explainers: &[ComparedExplainer],
        measured: &[Vec<JournalRow>],
        (metric, name): (usize, &str),
        folders: &[std::path::PathBuf],
    ) -> Result<Option<Gallery>, CompareError> {
        let set = self.images.any();
        let shown = bar(Some(worst.len() as u64), self.quiet, "gallery: {bar:24} {pos}/{len} images, {eta} left");
        let mut cases = Vec::new();
        for index in worst {
            let Ok(pixels) = set.load(*index, Crop::Centre) else {
                line(&format!("warning: {} can no longer be read; the gallery leaves it out", set.name(*index)));
                continue;
            };
            let photo = small(&picture(&pixels));
            let mut case = GalleryImage {
                image: set.id(*index),
                class: String::new(),
                picture: jpeg(&photo).map_err(encoding(&set.name(*index)))?,
                values: Vec::new(),
                maps: Vec::new(),
            };
            for ((explainer, measured), folder) in explainers.iter().zip(measured).zip(folders) {
                let row = measured.iter().find(|row| row.index == *index);
                case.values.push(row.and_then(|row| row.values.get(metric).copied().flatten()));
                let Some(row) = row else {
                    case.maps.push(None);
                    continue;
                };
                case.class = self.names.get(row.class).to_owned();
                let file = folder.join(format!("{index}.jpg"));
                let kept = match fs::read(&file) {
                    Ok(bytes) => bytes,
                    Err(_) => self.draw(explainer, &pixels, &photo, &file)?,
                };
                case.maps.push(Some(kept));
                if self.interrupter.should_stop() {
                    return Ok(None);
                }
            }
            cases.push(case);
            shown.inc(1);
        }
        shown.finish_and_clear();
        Ok(Some(Gallery { metric: name.into(), cases }))
    }

    /// An explainer's heat map over an image as JPEG; also written to `file`.
    fn draw(
        &self,
        explainer: &ComparedExplainer,
        pixels: &Pixels,
        photo: &RgbImage,
        file: &Path,
    ) -> Result<Vec<u8>, CompareError> {
        let failed = |source: ExplainError| CompareError::Explainer { name: explainer.name.clone(), source };
        let tensor = Pixels::to_tensor(std::slice::from_ref(pixels), &self.compute.device);
        let tensor = tensor.map_err(|error| CompareError::Data(error.into()))?;
        let explain = explainer.candidate.explainer.as_ref();
        let batch = ExplainBatch::from_pixels(tensor, explain.preprocessing());
        let explained = explain.explain_batch(&batch, Targets::Top(1)).map_err(failed)?;
        let maps = explained.per_image().map_err(|error| failed(error.into()))?;
        let map = maps.into_iter().flatten().next().ok_or_else(|| failed(ExplainError::NoMap))?.map;
        let bytes = jpeg(&overlay(photo, &map, OPACITY)).map_err(encoding(&file.display().to_string()))?;
        if let Some(folder) = file.parent() {
            let failed = |source| CompareError::Output { path: folder.into(), source };
            fs::create_dir_all(folder).map_err(failed)?;
        }
        write_atomic(file, |out| std::io::Write::write_all(out, &bytes))?;
        Ok(bytes)
    }
}

/// The picture, reduced to sides of at most [`SIDE`].
fn small(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height).max(1);
    if longest <= SIDE {
        return picture.clone();
    }
    let side = |side: u32| (side * SIDE / longest).max(1);
    resize(picture, side(width), side(height), FilterType::Triangle)
}

fn jpeg(picture: &RgbImage) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture)?;
    Ok(bytes)
}

fn encoding(path: &str) -> impl Fn(image::ImageError) -> CompareError {
    move |source| ReportError::Encode { path: path.into(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use explainer_metrics::metric;

    #[test]
    fn the_worst_come_first_whatever_the_direction() {
        let row = |(index, value): (usize, &Option<f64>)| JournalRow {
            index,
            image: index.to_string(),
            class: 0,
            values: vec![None, *value],
        };
        let rows: Vec<JournalRow> =
            [Some(2.0), None, Some(5.0), Some(2.0), Some(9.0)].iter().enumerate().map(row).collect();
        let [drop, rise] = ["ad@50", "ic@50"].map(|name| metric(name).unwrap().spec());
        assert_eq!(worst(&rows, 1, &drop, 3), [4, 2, 0]);
        assert_eq!(worst(&rows, 1, &rise, 9), [0, 3, 2, 4]);
        assert!(worst(&rows, 0, &drop, 3).is_empty());
    }

    #[test]
    fn large_pictures_are_made_smaller() {
        assert_eq!(small(&RgbImage::new(448, 224)).dimensions(), (224, 112));
        assert_eq!(small(&RgbImage::new(96, 96)).dimensions(), (96, 96));
        assert!(jpeg(&RgbImage::new(8, 8)).unwrap().starts_with(&[0xff, 0xd8]));
    }
}
