//! A learned explainer of one's own, complete: the map of a class is a weighted sum of the last tap's channels, and the
//! weights are trained as T-TAME's are. It is trained against the built-in classifier on the quickstart's scenes and measured
//! beside a centre Gaussian. "A learned explainer" in `CONTRIBUTING.md` adds YAML, artifacts and the command line.
//!
//! ```sh
//! cargo run --release --example minimal_explainer
//! ```

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::error::Error;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use explainer_attribution::{AttributionMethod, CentreGaussian};
use explainer_metrics::{MaskedConfidence, Summary};
use explainer_train::data::shapes::Split;
use explainer_train::data::{Loader, LoaderOptions, Scenes};
use explainer_zoo::backbone;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::tame::{MaskTarget, MaskedInputTask};
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput};
use explainer_zoo::feature_extractor::FeatureExtractor;
use explainer_zoo::maps::min_max;
use explainer_zoo::masking::Masking;
use explainer_zoo::training::{AdamW, Objective, Optimizer, StepBatch, StepContext, TrainingTask};

/// The explainer. Everything that is its own is in these lines.
#[derive(Module, Debug)]
struct WeightedSum {
    /// Weight of each channel for each class, `[K,C]`.
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
    let classifier = backbone::open("shapes_resnet", "embedded", None, None, &compute, &mut |_, _| {})?;
    let spec = classifier.spec().clone();
    let last = spec.default_taps.last().cloned().into_iter().collect::<Vec<_>>();
    let extractor = FeatureExtractor::new(classifier.clone(), spec.preprocessing.clone(), &last, None)?;
    let channels = extractor.tap_specs()[0].channels;

    let zeros = Tensor::zeros([spec.classes, channels], &compute.device.clone().autodiff());
    let mut explainer = WeightedSum { weights: Param::from_tensor(zeros) };
    let settings = AdamW { amsgrad: false, weight_decay: 1e-2, ..AdamW::default() };
    let (mut optimizer, _) = Optimizer::AdamW(settings).build()?;
    let task = MaskedInputTask { masked: MaskTarget::Image(Masking::AfterNorm), objective: Objective::ttame() };
    let context = StepContext { extractor: &extractor, ranks: None, sync: None };
    for batch in Loader::new(Arc::new(Scenes::new(Split::Train, 2048, 0)), LoaderOptions::training(32, 1, 0), 0)? {
        let batch = batch?;
        let features = extractor.extract(batch.images(&compute.device));
        let step_batch = StepBatch { step: batch.step, indices: &batch.indices };
        let (gradients, output) = task.step(&explainer, features, &step_batch, &context);
        explainer = optimizer.step(2e-2, explainer, gradients);
        if batch.step % 16 == 0 {
            let metrics: Vec<_> = output.read()?.named().map(|(name, value)| format!("{name} {value:.3}")).collect();
            println!("step {:2}  {}", batch.step, metrics.join("  "));
        }
    }

    let (metric, explainer) = (MaskedConfidence { percents: vec![50.0] }, explainer.valid());
    let (mut learned, mut gaussian) = (Vec::new(), Vec::new());
    for batch in Loader::new(Arc::new(Scenes::new(Split::Val, 256, 0)), LoaderOptions::validation(32), 0)? {
        let features = extractor.extract(batch?.images(&compute.device));
        let (images, class) = (&features.images, features.predicted());
        let maps = explainer.postprocess(explainer.maps(&features.input(), ClassSelection::Each(class.clone())));
        let score = |maps| {
            metric.measure(classifier.as_ref(), &spec.preprocessing, images, features.logits.clone(), &class, maps)
        };
        let classes: Vec<usize> = class.to_data().iter::<i64>().map(|class| class as usize).collect();
        gaussian.extend(score(CentreGaussian.maps(classifier.as_ref(), images, &classes)?));
        learned.extend(score(maps));
    }
    for (name, scores) in [("weighted sum", learned), ("centre Gaussian", gaussian)] {
        let [Summary { ad, ic, .. }] = metric.summary(&scores)[..] else { continue };
        println!("{name}: AD(50) {ad:.2}, IC(50) {ic:.2}");
    }
    Ok(())
}
