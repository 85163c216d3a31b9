use std::{error::Error, path::Path};

use burn::tensor::{Int, Tensor};
use explainer_zoo::adapter::Adapter;
use explainer_zoo::artifact::Artifact;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput};

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
    let side = artifact.config.preprocessing.crop;
    let adapters = taps.iter().map(|tap| Adapter::new(backbone.tap(*tap), side)).collect::<Result<Vec<_>, _>>()?;
    let seen = backbone.forward(images.clone(), &taps).taps;
    let features: Vec<_> = adapters.iter().zip(seen).map(|(adapter, tap)| adapter.apply(tap)).collect();
    let view = ExplainerInput { images: &images, features: &features };
    Ok(artifact.head.postprocess(artifact.head.maps(&view, ClassSelection::Of(classes))))
}
