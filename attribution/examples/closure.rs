//! Explains a classifier that is a plain closure: `cargo run --release -p explainer-attribution --example closure`.

use std::error::Error;

use burn::tensor::{Int, Tensor};
use explainer_attribution::{MethodContext, MethodSpec};
use explainer_zoo::backbone::ClosureBackbone;

#[allow(clippy::print_stdout, reason = "an example")]
fn main() -> Result<(), Box<dyn Error>> {
    const SIDE: usize = 16;
    // Class 0 is the brightness of the left half, class 1 that of the right half.
    let classifier = ClosureBackbone::new("halves", SIDE, 2, |images| {
        let mean = |half: Tensor<4>| half.mean_dim(1).mean_dim(2).mean_dim(3).reshape([-1, 1]);
        let halves = [0, SIDE / 2].map(|left| mean(images.clone().narrow(3, left, SIDE / 2)));
        Tensor::cat(halves.to_vec(), 1) * 10.0
    });
    let pixels = Tensor::<1, Int>::arange(0..(3 * SIDE * SIDE) as i64, &Default::default()).float();
    let image = (pixels * 0.7).sin().abs().reshape([1, 3, SIDE, SIDE]);

    for name in ["integrated-gradients@20", "rise@500"] {
        let method = name.parse::<MethodSpec>()?.build(&MethodContext::new(&classifier))?;
        let found = method.explain(&classifier, &image, &[1])?;
        let column_means = found.maps.mean_dim(2).reshape([SIDE]).into_data();
        println!("{name}, {:?}, mean of each column of the map of class 1:", found.passes);
        println!("{}\n", column_means.iter::<f32>().map(|mean| format!("{mean:.2}")).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}
