//! The summary at the end of a run: the trained explainer beside methods without training, on images with known objects.

use burn::tensor::Tensor;
use explainer_attribution::{AttributionMethod, MethodContext, MethodSpec};
use explainer_zoo::image::Pixels;
use image::RgbImage;

use crate::data::{Batch, DataError, Loader, LoaderOptions};
use crate::fit::Finished;
use crate::report::overlay::{colours, masked, picture};
use crate::report::sheet::Sheet;
use explainer_metrics::{Confidence, MaskedConfidence, Summary};
use explainer_zoo::bilinear::resize;
use explainer_zoo::explain::{HeatMap, HeatMapError};

/// The figures of one method.
#[derive(Clone, Debug)]
pub struct Row {
    /// The method.
    pub name: &'static str,
    /// AD, IC and AG.
    pub figures: Vec<Summary>,
    /// Mean share of the map's mass inside the object, in percent; `None` where objects are not known.
    pub inside: Option<f64>,
}

/// The methods that the trained explainer is compared with.
const METHODS: [&str; 3] = ["grad-cam", "centre-gaussian", "uniform"];

/// Compares on all validation images. The methods share the clean pass of the classifier; a method that does not support the
/// classifier is left out.
///
/// # Errors
/// A [`DataError`] of the images.
pub fn compare(finished: &Finished) -> Result<Vec<Row>, DataError> {
    let metric = MaskedConfidence::default();
    let backbone = finished.extractor.backbone.as_ref();
    let preprocessing = &backbone.spec().preprocessing;
    let mut names = vec!["trained explainer"];
    let mut others: Vec<Box<dyn AttributionMethod>> = Vec::new();
    for method in METHODS.iter().filter_map(|name| name.parse::<MethodSpec>().ok()) {
        if let Ok(attributor) = method.build(&MethodContext::new(backbone)) {
            names.push(method.title());
            others.push(attributor);
        }
    }
    let mut scores: Vec<Vec<Confidence>> = vec![Vec::new(); names.len()];
    let mut inside: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    for batch in Loader::new(finished.valid.clone(), LoaderOptions::validation(finished.batch_size), 0)? {
        let batch = batch?;
        let (clean, learned) = finished.explain(batch.images(&finished.device));
        let [images, _, height, width] = clean.images.dims();
        let classes: Vec<usize> = clean.predicted().to_data().iter::<i64>().map(|class| class as usize).collect();
        let mut maps = vec![learned];
        for other in &others {
            let found = other.explain(backbone, &clean.images, &classes);
            let none = |_| Tensor::zeros([images, 1, height, width], &finished.device);
            maps.push(found.map_or_else(none, |found| found.maps));
        }
        for ((map, scores), inside) in maps.into_iter().zip(&mut scores).zip(&mut inside) {
            let full = resize(map.clone(), [height, width]);
            inside.extend(mass_inside(finished, &batch, full));
            let (images, logits) = (&clean.images, clean.logits.clone());
            scores.extend(metric.measure(backbone, preprocessing, images, logits, &clean.predicted(), map));
        }
    }
    let row = |((name, scores), inside): ((&'static str, &Vec<Confidence>), &Vec<f64>)| Row {
        name,
        figures: metric.summary(scores),
        inside: (!inside.is_empty()).then(|| 100.0 * inside.iter().sum::<f64>() / inside.len() as f64),
    };
    Ok(names.into_iter().zip(&scores).zip(&inside).map(row).collect())
}

/// Share of each map's mass inside its object (the weighting game), for maps `[B,1,H,W]` at the size of the crop.
fn mass_inside(finished: &Finished, batch: &Batch, maps: Tensor<4>) -> Vec<f64> {
    let values: Vec<f32> = maps.into_data().iter::<f32>().collect();
    let size = batch.height * batch.width;
    let mut shares = Vec::new();
    for ((index, crop), map) in batch.indices.iter().zip(&batch.crops).zip(values.chunks(size.max(1))) {
        let Some(object) = finished.valid.object(*index, *crop) else { continue };
        let all: f64 = map.iter().map(|v| f64::from(*v)).sum();
        let hit: f64 = map.iter().zip(&object).filter(|(_, inside)| **inside).map(|(v, _)| f64::from(*v)).sum();
        shares.push(if all > 0.0 { hit / all } else { 0.0 });
    }
    shares
}

/// A contact sheet of `count` validation images, spread over the set: image, object (where known), map, masked image.
///
/// # Errors
/// A [`DataError`] of the images; [`HeatMapError`] for a map without values.
pub fn contact_sheet(finished: &Finished, count: usize) -> Result<Sheet, SheetError> {
    let known = !finished.valid.is_empty() && finished.valid.object(0, explainer_zoo::image::Crop::Centre).is_some();
    let columns = if known { vec!["image", "object", "map", "masked"] } else { vec!["image", "map", "masked"] };
    let mut sheet = Sheet::new(columns);
    let names = finished.class_names.as_deref().unwrap_or_default();
    // Spread over the set: in a folder with one sub-folder a class, the first images are all of one class.
    let every = (finished.valid.len() / count.max(1)).max(1);
    for index in (0..finished.valid.len()).step_by(every).take(count) {
        let Ok(pixels) = finished.valid.load(index, explainer_zoo::image::Crop::Centre) else { continue };
        let Pixels { height, width, .. } = pixels;
        let tensor = Pixels::to_tensor(std::slice::from_ref(&pixels), &finished.device);
        let Ok(tensor) = tensor else { continue };
        let (clean, map) = finished.explain(tensor);
        let values: Vec<f32> = resize(map, [height, width]).into_data().iter::<f32>().collect();
        let map = HeatMap::new(height, width, values)?;
        let photo = picture(&pixels);
        let mut row = vec![photo.clone()];
        if let Some(object) = finished.valid.object(index, explainer_zoo::image::Crop::Centre) {
            let shade = |x: u32, y: u32| {
                let inside = object.get(y as usize * width + x as usize).copied().unwrap_or(false);
                image::Rgb([if inside { 255 } else { 0 }; 3])
            };
            row.push(RgbImage::from_fn(width as u32, height as u32, shade));
        }
        row.push(colours(&map, height as u32, width as u32));
        row.push(masked(&photo, &map));
        let class = clean.predicted().into_data().iter::<i64>().next().unwrap_or_default();
        let caption = names.get(class as usize).cloned().unwrap_or_else(|| format!("class {class}"));
        sheet.row(caption, row);
    }
    Ok(sheet)
}

/// Why a contact sheet cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// The images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A heat map without values.
    #[error(transparent)]
    Map(#[from] HeatMapError),
}
