use std::{error::Error, path::Path};

use burn::tensor::{Int, Tensor};
use explainer_zoo::adapter::to_map;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::explainer::{ClassSelection, Explainer, View, min_max};

/// Normalised images `[B,3,H,W]` to heat maps `[B,k,h,w]` in 0..=1 of the classes asked for.
fn explain(
    folder: &Path,
    backbone: &dyn Backbone,
    images: Tensor<4>,
    classes: Tensor<1, Int>,
) -> Result<Tensor<4>, Box<dyn Error>> {
    let artifact = Artifact::load(folder, &images.device())?;
    let verified = artifact.config.verify_backbone(backbone.spec())?;
    eprintln!("{verified:?}");
    let taps = backbone.taps(&artifact.config.taps)?;
    let seen = backbone.observe(images.clone(), &taps).taps.into_iter();
    let maps = seen.zip(&taps).map(|(seen, tap)| to_map(seen, backbone.tap(*tap)));
    let features = maps.collect::<Result<Vec<_>, _>>()?;
    let view = View { images: &images, features: &features };
    Ok(min_max(artifact.head.maps(&view, ClassSelection::Of(classes))))
}
