use explainer_zoo::image::decode;
use explainer_zoo::{Explain, Explainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `Explainer::builder` takes another place of the classifier's weights, a device and a number of threads.
    let explainer = Explainer::open("DIR")?;
    let top = explainer.explain(&decode("image.jpg".as_ref())?)?;
    println!("class {}, probability {}, heat map {:?}", top.class, top.probability, top.map.values());
    Ok(())
}
