//! A photograph to heat maps of its predicted classes.

use explainer_zoo::explain::Targets;
use explainer_zoo::image::decode;
use explainer_zoo::{Explain, Explainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let explainer = Explainer::open("checkpoints/mine/artifact")?;
    let image = decode("photo.jpg".as_ref())?;
    let top = explainer.explain(&image)?; // the heat map of the predicted class
    println!("class {}: {:.1}%, {} x {} cells", top.class, 100.0 * top.probability, top.map.height(), top.map.width());
    for one in explainer.explain_targets(&image, Targets::Top(3))? {
        println!("class {}: {:?}", one.class, one.map.resized(224, 224).values().first());
    }
    Ok(())
}
