//! Draws the picture of the README: quickstart scenes, their maps by T-TAME and by Grad-CAM, and what T-TAME's map keeps.
//!
//! ```sh
//! cargo run --release -p explainer-train --example readme_picture -- docs/src/images/quickstart.png
//! ```
//!
//! Nothing is trained or downloaded: the explainer is `zoo:quickstart`, the classifier is built in, and the scenes are of a
//! split that neither has seen.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Tensor;
use explainer_attribution::{MethodContext, MethodSpec};
use explainer_train::data::shapes::{SIDE, Scene, ShapesSet, Split};
use explainer_train::report::overlay::{OPACITY, masked, overlay, picture};
use explainer_train::report::sheet::Sheet;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::backbone::{Backbone, load};
use explainer_zoo::bilinear::resize;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::HeatMap;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead};
use explainer_zoo::feature_extractor::FeatureExtractor;
use explainer_zoo::image::Pixels;
use explainer_zoo::weights::source::SourceSettings;
use explainer_zoo::zoo;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

/// Scenes of the picture, by their number in the split; one row each.
const SCENES: [usize; 4] = [0, 4, 7, 8];

/// Colour values are multiples of this.
const LEVEL: u8 = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "quickstart.png".into()));
    let compute = Compute::default();
    let quickstart = zoo::find("quickstart")?.open(&SourceSettings::from_env(), &mut |_, _| {})?;
    let Artifact { config, head } = Artifact::load(quickstart.folder(), &compute.device)?;
    let backbone: Arc<dyn Backbone> = Arc::new(load("shapes_resnet", "embedded", None, &compute, &mut |_, _| {})?);
    let extractor = FeatureExtractor::new(backbone.clone(), config.preprocessing.clone(), &config.taps, None)?;
    let grad_cam = "grad-cam".parse::<MethodSpec>()?.build(&MethodContext::new(backbone.as_ref()))?;

    let set = ShapesSet::new(Split::Fresh, 1000, 0);
    let scenes: Vec<Pixels> = SCENES.iter().map(|number| pixels(&set.scene(*number))).collect();
    let features = extractor.extract(Pixels::to_tensor(&scenes, &compute.device)?);
    let classes: Vec<usize> = features.predicted().into_data().iter::<i64>().map(|class| class as usize).collect();
    let learned = head.postprocess(head.maps(&features.input(), ClassSelection::Each(features.predicted())));
    let gradients = grad_cam.explain(backbone.as_ref(), &features.images, &classes)?.maps;

    let mut sheet = Sheet::new(["image", "T-TAME", "Grad-CAM", "masked"]);
    let maps = heat_maps(learned)?.into_iter().zip(heat_maps(gradients)?);
    for ((scene, class), (learned, gradient)) in scenes.iter().zip(&classes).zip(maps) {
        let image = picture(scene);
        let maps = [&learned, &gradient].map(|map| overlay(&image, map, OPACITY));
        let kept = masked(&image, &learned);
        sheet.row(ShapesSet::CLASSES[*class], [image].into_iter().chain(maps).chain([kept]));
    }
    // Fewer levels of colour, which nobody sees, halve the file.
    let mut picture = sheet.render();
    picture
        .pixels_mut()
        .flat_map(|pixel| &mut pixel.0)
        .for_each(|value| *value = value.div_ceil(LEVEL).saturating_mul(LEVEL));
    let file = BufWriter::new(File::create(&path)?);
    Ok(picture.write_with_encoder(PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive))?)
}

/// A scene as an image in memory.
fn pixels(scene: &Scene) -> Pixels {
    let plane = SIDE * SIDE;
    let value = |i: usize| f32::from(scene.image[3 * (i % plane) + i / plane]) / 255.0;
    Pixels { height: SIDE, width: SIDE, values: (0..3 * plane).map(value).collect() }
}

/// Maps `[B,1,h,w]` in 0..=1 at the scenes' size.
fn heat_maps(maps: Tensor<4>) -> Result<Vec<HeatMap>, Box<dyn Error>> {
    let values: Vec<f32> = resize(maps, [SIDE, SIDE]).into_data().iter::<f32>().collect();
    values.chunks(SIDE * SIDE).map(|map| Ok(HeatMap::new(SIDE, SIDE, map.to_vec())?)).collect()
}
