//! A fifth learned explainer, whole: the map of a class is a weighted sum of the last tap's channels, and the weights are
//! learned as T-TAME's are. It trains against the built-in classifier on the quickstart's scenes and is measured beside a
//! centre Gaussian. To have it in YAML, artifacts and the command line too, see "A learned explainer" in `CONTRIBUTING.md`.
//!
//! ```sh
//! cargo run --release --example minimal_explainer
//! ```

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::error::Error;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Tensor, activation::sigmoid};
use explainer_attribution::{AttributionMethod, CentreGaussian};
use explainer_metrics::{MaskedConfidence, Summary};
use explainer_train::data::shapes::Split;
use explainer_train::data::{Loader, Plan, Scenes};
use explainer_zoo::adapter::Adapter;
use explainer_zoo::backbone::{self, Backbone, Tap};
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput};
use explainer_zoo::maps::min_max;
use explainer_zoo::masking::Masking;
use explainer_zoo::training::{Objective, cross_entropy, matching};

/// The explainer. Everything that is its own is in these lines.
#[derive(Module, Debug)]
struct WeightedSum {
    /// What each channel says of each class, `[K,C]`.
    weights: Param<Tensor<2>>,
}

impl ExplainerHead for WeightedSum {
    fn maps(&self, view: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4> {
        let feature = view.features[0].clone();
        let [batch, channels, height, width] = feature.dims();
        let cells = feature.reshape([batch, channels, height * width]);
        let weights: Tensor<3> = match classes {
            ClassSelection::All => self.weights.val().unsqueeze_dim(0),
            ClassSelection::Of(classes) => self.weights.val().select(0, classes).unsqueeze_dim(0),
            ClassSelection::Each(classes) => self.weights.val().select(0, classes).unsqueeze_dim(1),
        };
        let [_, count, _] = weights.dims();
        weights.expand([batch, count, channels]).matmul(cells).reshape([batch, count, height, width])
    }

    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4> {
        min_max(raw)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let compute = Compute::default();
    let classifier = backbone::load("shapes_resnet", "embedded", None, &compute, &mut |_, _| {})?;
    let spec = classifier.spec();
    let taps = classifier.taps(&spec.default_taps[spec.default_taps.len() - 1..])?;
    let adapter = Adapter::new(classifier.tap(taps[0]), spec.preprocessing.crop)?;
    let look = |images: Tensor<4>| {
        let seen = classifier.forward(images, &taps);
        let [batch, _] = seen.logits.dims();
        let features: Vec<_> = seen.taps.into_iter().map(|tap| adapter.apply(tap)).collect();
        (seen.logits.clone().argmax(1).reshape([batch]), seen.logits, features)
    };

    let zeros = Tensor::zeros([spec.classes, classifier.tap(taps[0]).channels], &compute.device.clone().autodiff());
    let mut explainer = WeightedSum { weights: Param::from_tensor(zeros) };
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(1e-2).init();
    let objective = Objective::ttame();
    for batch in Loader::new(Arc::new(Scenes::new(Split::Train, 2048, 0)), Plan::training(32, 1, 0), 0)? {
        let batch = batch?;
        let images = spec.preprocessing.normalise(batch.images(&compute.device));
        let (class, _, features) = look(images.clone());
        let view = ExplainerInput { images: &images, features: &features };
        let maps = sigmoid(explainer.maps(&view, ClassSelection::Of(class.clone())));
        let masked = Masking::AfterNorm.apply(images, matching(maps.clone()), &spec.preprocessing);
        // The classifier stands outside the explainer's graph: its gradient comes in as a constant.
        let answer = classifier.vjp(masked.clone().inner(), &|logits, rows| {
            objective.logit_gradient(logits, class.clone().narrow(0, rows.start, rows.len()), batch.len())
        });
        let Tap::Map(gradient) = answer.gradient else {
            return Err("a convolutional network's gradient is a map".into());
        };
        let regulariser = objective.regulariser(maps);
        let surrogate = (masked * gradient.autodiff()).sum() + regulariser.loss.clone();
        let gradients = GradientsParams::from_grads(surrogate.backward(), &explainer);
        explainer = optimizer.step(2e-2, explainer, gradients);
        if batch.step % 16 == 0 {
            let loss = objective.terms(cross_entropy(answer.logits, class), &regulariser).total;
            println!("step {:2}  loss {:.3}", batch.step, loss.into_scalar::<f32>());
        }
    }

    let (metric, explainer) = (MaskedConfidence { percents: vec![50.0] }, explainer.valid());
    let (mut learned, mut floor) = (Vec::new(), Vec::new());
    for batch in Loader::new(Arc::new(Scenes::new(Split::Val, 256, 0)), Plan::validation(32), 0)? {
        let images = spec.preprocessing.normalise(batch?.images(&compute.device));
        let (class, logits, features) = look(images.clone());
        let each = ClassSelection::Each(class.clone());
        let maps =
            explainer.postprocess(explainer.maps(&ExplainerInput { images: &images, features: &features }, each));
        let score = |maps| metric.measure(&classifier, &spec.preprocessing, &images, logits.clone(), &class, maps);
        let classes: Vec<usize> = class.to_data().iter::<i64>().map(|class| class as usize).collect();
        floor.extend(score(CentreGaussian.maps(&classifier, &images, &classes)?));
        learned.extend(score(maps));
    }
    for (name, scores) in [("weighted sum", learned), ("centre Gaussian", floor)] {
        let [Summary { ad, ic, .. }] = metric.summary(&scores)[..] else { continue };
        println!("{name}: AD(50) {ad:.2}, IC(50) {ic:.2}");
    }
    Ok(())
}
