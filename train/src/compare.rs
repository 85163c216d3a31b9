//! A trained explainer beside maps without training, on images whose object is known.

use burn::tensor::Tensor;
use explainer_zoo::adapter::Adapter;
use explainer_zoo::attribution::{centre_gaussian, grad_cam, uniform};
use explainer_zoo::backbone::TapId;
use explainer_zoo::image::Pixels;
use image::RgbImage;

use crate::data::{Batch, DataError, Loader, Plan};
use crate::fit::Finished;
use crate::fit::context::Context;
use crate::metric::{Confidence, MaskedConfidence, Summary};
use crate::objective::upsample;
use crate::report::ReportError;
use crate::report::heat_map::HeatMap;
use crate::report::overlay::{colours, masked, picture};
use crate::report::sheet::Sheet;

/// One method's figures.
#[derive(Clone, Debug)]
pub struct Row {
    /// The method.
    pub name: &'static str,
    /// AD, IC and AG.
    pub figures: Vec<Summary>,
    /// Mean share of the map's mass inside the object, in percent; `None` where objects are not known.
    pub inside: Option<f64>,
}

/// The methods of the comparison.
const METHODS: [&str; 4] = ["trained explainer", "Grad-CAM", "centre Gaussian", "uniform map"];

/// Compares on all validation images; a method that the classifier does not allow is left out. The classifier's clean pass is shared by the methods.
///
/// # Errors
/// A [`DataError`] of the images.
pub fn compare(finished: &Finished) -> Result<Vec<Row>, DataError> {
    let metric = MaskedConfidence::default();
    let mut scores: Vec<Vec<Confidence>> = vec![Vec::new(); METHODS.len()];
    let mut inside: Vec<Vec<f64>> = vec![Vec::new(); METHODS.len()];
    let context = &finished.context;
    let backbone = context.backbone.as_ref();
    let preprocessing = &backbone.spec().preprocessing;
    for batch in Loader::new(finished.valid.clone(), Plan::validation(finished.batch_size), 0)? {
        let batch = batch?;
        let (clean, learned) = finished.trainee.explain(batch.images(&context.device));
        let [images, _, height, width] = clean.images.dims();
        let cam = last_tap(context, height.min(width));
        let cam = cam.map(|(tap, adapter)| grad_cam(backbone, &clean.images, &clean.class, tap, &adapter));
        let gaussian = centre_gaussian(images, height.min(width), &context.device);
        // At full size: resizing a constant map would round some of its pixels below their quantile.
        let uniform = uniform(images, height.min(width), &context.device);
        let maps = [Some(learned), cam, Some(gaussian), Some(uniform)];
        for ((map, scores), inside) in maps.into_iter().zip(&mut scores).zip(&mut inside) {
            let Some(map) = map else { continue };
            let full = upsample(map.clone(), [height, width]);
            inside.extend(mass_inside(finished, &batch, full));
            let (images, logits) = (&clean.images, clean.logits.clone());
            scores.extend(metric.measure(backbone, preprocessing, images, logits, &clean.class, map));
        }
    }
    let row = |((name, scores), inside): ((&'static str, &Vec<Confidence>), &Vec<f64>)| Row {
        name,
        figures: metric.summary(scores),
        inside: (!inside.is_empty()).then(|| 100.0 * inside.iter().sum::<f64>() / inside.len() as f64),
    };
    Ok(METHODS.into_iter().zip(&scores).zip(&inside).filter(|((_, scores), _)| !scores.is_empty()).map(row).collect())
}

/// The tap of Grad-CAM, for images of `side` pixels: the explainer's last, or where those are an auxiliary's, the last
/// that the classifier has by default. None where it has none, or no gradient with respect to it.
fn last_tap(context: &Context, side: usize) -> Option<(TapId, Adapter)> {
    let backbone = context.backbone.as_ref();
    let default = || backbone.taps(&backbone.spec().default_taps).ok()?.pop();
    let tap = context.taps.last().copied().or_else(default).filter(|_| backbone.replaces_taps())?;
    Some((tap, Adapter::new(backbone.tap(tap), side).ok()?))
}

/// Share of each map's mass inside its object (the weighting game), for maps `[B,1,H,W]` of the crop's size.
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

/// A contact sheet of the first `count` validation images: image, object (where known), map, masked image.
///
/// # Errors
/// A [`DataError`] of the images; a [`ReportError`] of a map's shape.
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
        let tensor = Pixels::to_tensor(std::slice::from_ref(&pixels), &finished.context.device);
        let Ok(tensor) = tensor else { continue };
        let (clean, map) = finished.trainee.explain(tensor);
        let values: Vec<f32> = upsample(map, [height, width]).into_data().iter::<f32>().collect();
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
        let class = clean.class.into_data().iter::<i64>().next().unwrap_or_default();
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
    /// The pictures.
    #[error(transparent)]
    Report(#[from] ReportError),
}
