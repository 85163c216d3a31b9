use std::{error::Error, path::Path, sync::Arc};

use burn::tensor::{Int, Tensor};
use explainer_zoo::artifact::Artifact;
use explainer_zoo::auxiliary::Auxiliary;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput};

/// Images `[B,3,H,W]` in 0..=1, cropped as `preprocessing` has it, to heat maps `[B,k,h,w]` in 0..=1 of the classes
/// asked for. Only to ask for the predicted classes is the explained classifier needed.
fn explain(
    folder: &Path,
    auxiliary: Arc<dyn Backbone>,
    pixels: Tensor<4>,
    classes: Tensor<1, Int>,
) -> Result<Tensor<4>, Box<dyn Error>> {
    let Artifact { config, head } = Artifact::load(folder, &pixels.device())?;
    let verified = config.verify_auxiliary(auxiliary.spec())?;
    eprintln!("{verified:?}");
    let preprocessing = config.auxiliary_preprocessing().ok_or("this explainer has no auxiliary")?;
    let auxiliary = Auxiliary::new(auxiliary, &config.taps, preprocessing)?;
    let images = config.preprocessing.normalise(pixels.clone());
    let view = ExplainerInput { images: &images, features: &auxiliary.features(pixels) };
    Ok(head.postprocess(head.maps(&view, ClassSelection::Of(classes))))
}
