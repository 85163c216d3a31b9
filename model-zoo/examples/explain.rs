//! A photograph to heat maps of its predicted classes.
#![allow(clippy::print_stdout, reason = "an example prints")]

use explainer_zoo::{Explain, Explainer, explain::Targets, image::decode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let explainer = Explainer::open("checkpoints/mine/artifact")?;
    let image = decode("photo.jpg".as_ref())?;
    println!("{:?}", explainer.explain(&image)?); // the heat map of the predicted class
    for one in explainer.explain_targets(&image, Targets::Top(3))? {
        println!("class {}, {:.2}: {:?}", one.class, one.probability, one.map.resized(224, 224).values());
    }
    Ok(())
}
