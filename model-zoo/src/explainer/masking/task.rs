//! The two training steps of the masking model. The selector learns from the clean pass alone, the decoder from two more
//! passes through the classifier: on the image that the mask shows, and on the one that it hides.

use burn::optim::GradientsParams;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Gradients, Int, Tensor, TensorData};

use super::infill::Infill;
use super::loss::{MaskLoss, MaskRegulariser, MaskedSide, presence_loss};
use super::model::MaskingModel;
use super::targets::{fake_targets, shifted};
use crate::backbone::Tap;
use crate::feature_extractor::{FeatureExtractor, Features};
use crate::head::{ClassSelection, ExplainerHead};
use crate::training::{MetricNames, StepBatch, StepContext, StepOutput, TrainingTask};

/// The classes that the model is given.
struct Targets {
    /// The class of each image `[B]`.
    class: Tensor<1, Int>,
    /// Whether it is a wrong one.
    fake: Vec<bool>,
}

impl Targets {
    /// The predicted classes, of which a part `share` is replaced by wrong ones.
    fn draw(model: &MaskingModel, features: &Features, batch: &StepBatch<'_>, seed: u64, share: f64) -> Self {
        let [_, classes] = features.logits.dims();
        let share = if model.selector.is_some() { share } else { 0.0 };
        let shifts = fake_targets(seed, batch.step, batch.indices, share, classes);
        Self {
            class: shifted(features.predicted(), &shifts, classes),
            fake: shifts.iter().map(|shift| *shift != 0).collect(),
        }
    }
}

/// Trains the class selector; the decoder is not used.
#[derive(Clone, Debug)]
pub struct SelectorTask {
    /// Probability that an image is given a wrong class.
    pub fake_targets: f64,
    /// Seed of the wrong classes.
    pub seed: u64,
}

impl TrainingTask<MaskingModel> for SelectorTask {
    /// The loss, and the share of images for which the selector tells right from wrong.
    fn report(&self) -> MetricNames {
        &[("loss", false), ("accuracy", true)]
    }

    fn validates(&self) -> bool {
        false
    }

    fn step(
        &self,
        model: &MaskingModel,
        features: Features,
        batch: &StepBatch<'_>,
        _: &StepContext<'_>,
    ) -> (GradientsParams, StepOutput) {
        let targets = Targets::draw(model, &features, batch, self.seed, self.fake_targets);
        let top = features.features.last().cloned().unwrap_or_else(|| features.images.clone());
        let presence = model.presence(top, targets.class);
        let loss = presence_loss(presence.clone(), &targets.fake);
        let says = presence.without_autodiff().greater_scalar(0.0).float();
        let truth: Vec<f32> = targets.fake.iter().map(|fake| if *fake { 0.0 } else { 1.0 }).collect();
        let truth = Tensor::<1>::from_data(TensorData::new(truth, says.dims()), &says.device());
        let accuracy = says.equal(truth).float().mean();
        let gradients = GradientsParams::from_grads(loss.clone().backward(), model);
        let values = Tensor::cat(vec![loss.without_autodiff(), accuracy], 0);
        (gradients, StepOutput { report: self.report(), values, images: batch.indices.len() })
    }
}

/// Trains the decoder; the selector stays as it is.
#[derive(Clone, Debug)]
pub struct DecoderTask {
    /// The loss.
    pub loss: MaskLoss,
    /// What replaces the parts of an image that a mask leaves out.
    pub infill: Infill,
    /// Probability that the selector is given a wrong class; no part in a model without a selector.
    pub fake_targets: f64,
    /// Seed of the wrong classes and the infill.
    pub seed: u64,
}

impl TrainingTask<MaskingModel> for DecoderTask {
    /// The loss, its terms, and the share of images (fake targets aside) whose shown part is classified as the whole.
    fn report(&self) -> MetricNames {
        &[
            ("loss", false),
            ("preserve", false),
            ("destroy", false),
            ("area", false),
            ("tv", false),
            ("empty", false),
            ("agreement", true),
        ]
    }

    fn step(
        &self,
        model: &MaskingModel,
        features: Features,
        batch: &StepBatch<'_>,
        context: &StepContext<'_>,
    ) -> (GradientsParams, StepOutput) {
        let targets = Targets::draw(model, &features, batch, self.seed, self.fake_targets);
        let (gradients, values) = self.loss(model, features, batch, context.extractor, &targets);
        let values = Tensor::cat(values, 0);
        let output = StepOutput { report: self.report(), values, images: batch.indices.len() };
        (GradientsParams::from_grads(gradients, model), output)
    }
}

impl DecoderTask {
    fn loss(
        &self,
        model: &MaskingModel,
        features: Features,
        batch: &StepBatch<'_>,
        extractor: &FeatureExtractor,
        targets: &Targets,
    ) -> (Gradients, Vec<Tensor<1>>) {
        let images = batch.indices.len();
        let device = features.images.device();
        let raw = model.maps(&features.input(), ClassSelection::Each(targets.class.clone()));
        let MaskRegulariser { loss: mut surrogate, tv, area, empty } =
            self.loss.regulariser(raw.clone(), &targets.fake);
        let mut total = surrogate.clone().without_autodiff();

        // A wrong class can be neither preserved nor destroyed: the classifier sees the other images alone.
        let real: Vec<i64> = (0..).zip(&targets.fake).filter(|(_, fake)| !**fake).map(|(row, _)| row).collect();
        let mut terms = [(); 3].map(|()| Tensor::<1>::zeros([1], &device));
        if !real.is_empty() {
            let own = batch.indices.iter().zip(&targets.fake).filter(|(_, fake)| !**fake);
            let numbers: Vec<usize> = own.map(|(number, _)| *number).collect();
            let count = real.len();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(real, [count]), &device);
            let class = targets.class.clone().select(0, rows.clone());
            let pixels = features.images.select(0, rows.clone());
            let mask = sigmoid(raw.select(0, rows));
            for (i, part) in [MaskedSide::Preserve, MaskedSide::Destroy].into_iter().enumerate() {
                let (purpose, mask) = match part {
                    MaskedSide::Preserve => ("infill of the shown", mask.clone()),
                    MaskedSide::Destroy => ("infill of the hidden", mask.clone().neg().add_scalar(1.0)),
                };
                let draw = (self.seed, purpose, batch.step);
                let seen = self.infill.draw(pixels.clone(), &extractor.preprocessing, draw, &numbers).show(mask);
                let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| {
                    let class = class.clone().narrow(0, rows.start, rows.len());
                    self.loss.logit_gradient(part, logits, class, images)
                };
                // The classifier is not part of the decoder's graph: its gradient enters as a constant.
                let output = extractor.backbone.vjp(seen.clone().without_autodiff(), &cotangent);
                if let Tap::Map(gradient) = output.gradient {
                    surrogate = surrogate + (seen * gradient.autodiff()).sum();
                }
                let term = self.loss.term(part, output.logits.clone(), class.clone()).sum().div_scalar(images as f64);
                total = total + term.clone().mul_scalar(self.loss.weight(part));
                terms[i] = term;
                if part == MaskedSide::Preserve {
                    terms[2] = output.logits.argmax(1).reshape([count]).equal(class.clone()).float().mean();
                }
            }
        }
        let [preserve, destroy, agreement] = terms;
        (surrogate.backward(), vec![total, preserve, destroy, area, tv, empty, agreement])
    }
}
