//! The fast masking model. Its selector learns from the clean pass alone; its decoder from two more passes through the
//! classifier, on the image that the mask shows and on the one that it hides.

use burn::optim::GradientsParams;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Gradients, Int, Tensor, TensorData};
use explainer_zoo::backbone::Tap;
use explainer_zoo::explainer::masking::{
    Infill, MaskLoss, MaskRegulariser, MaskingModelSection, Part, PhaseSettings, fake_targets, presence_loss, shifted,
};
use explainer_zoo::explainer::{AnyHead, ClassSelection, ExplainerHead};
use explainer_zoo::feature_extractor::Features;

use crate::data::Batch;
use crate::fit::context::Context;
use crate::fit::metrics::{Report, StepOutput};

/// What a masking model is trained for, in one of its phases.
#[derive(Clone, Debug)]
pub struct MaskingTask {
    /// What the phase trains.
    pub phase: PhaseName,
    /// The decoder's loss.
    pub loss: MaskLoss,
    /// What the classifier sees in the place of what a mask leaves out.
    pub infill: Infill,
    /// Probability that the selector is given a wrong class. Without a selector there is none to be given.
    pub fake_targets: f64,
    /// Seed of the wrong classes and the infill.
    pub seed: u64,
}

impl MaskingTask {
    /// What `section` says of a phase; `seed` is the run's.
    pub fn new(section: &MaskingModelSection, phase: PhaseName, seed: u64) -> Self {
        Self {
            phase,
            loss: section.loss.clone(),
            infill: section.infill.clone(),
            fake_targets: phase.settings(section).fake_targets,
            seed,
        }
    }
}

/// A phase of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseName {
    /// The class selector learns, the decoder is not asked.
    Selector,
    /// The decoder learns, the selector stays as it is.
    Decoder,
}

impl PhaseName {
    /// As the YAML and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Selector => "selector",
            Self::Decoder => "decoder",
        }
    }

    /// What a configuration says of it.
    pub fn settings(self, section: &MaskingModelSection) -> PhaseSettings {
        match self {
            Self::Selector => PhaseSettings::from(&section.phases.selector),
            Self::Decoder => PhaseSettings::from(&section.phases.decoder),
        }
    }

    /// Of the selector the loss and the share of images for which it tells right from wrong. Of the decoder the loss,
    /// its terms, and the share of images (fake targets aside) whose shown part is still classified as the whole.
    pub fn report(self) -> Report {
        match self {
            Self::Selector => &[("loss", false), ("accuracy", true)],
            Self::Decoder => &[
                ("loss", false),
                ("preserve", false),
                ("destroy", false),
                ("area", false),
                ("tv", false),
                ("empty", false),
                ("agreement", true),
            ],
        }
    }
}

/// A step of `model`; `clean` is the clean pass.
pub(super) fn masking_model(
    model: &AnyHead,
    task: &MaskingTask,
    clean: Features,
    batch: &Batch,
    context: &Context,
) -> (GradientsParams, StepOutput) {
    let [_, classes] = clean.logits.dims();
    let share = if model.has_selector() { task.fake_targets } else { 0.0 };
    let shifts = fake_targets(task.seed, batch.step, &batch.indices, share, classes);
    let targets = Targets {
        class: shifted(clean.predicted(), &shifts, classes),
        fake: shifts.iter().map(|shift| *shift != 0).collect(),
    };
    let (gradients, values) = match task.phase {
        PhaseName::Selector => selector(model, &clean, &targets),
        PhaseName::Decoder => decoder(model, task, context, batch, clean, &targets),
    };
    let gradients = GradientsParams::from_grads(gradients, model);
    (gradients, StepOutput { report: task.phase.report(), values: Tensor::cat(values, 0), images: batch.len() })
}

/// What the model is asked for.
struct Targets {
    /// The class of each image `[B]`.
    class: Tensor<1, Int>,
    /// Whether it is a wrong one.
    fake: Vec<bool>,
}

fn selector(model: &AnyHead, clean: &Features, targets: &Targets) -> (Gradients, Vec<Tensor<1>>) {
    let top = clean.features.last().cloned().unwrap_or_else(|| clean.images.clone());
    let presence = model.presence(top, targets.class.clone());
    let loss = presence_loss(presence.clone(), &targets.fake);
    let says = presence.without_autodiff().greater_scalar(0.0).float();
    let truth: Vec<f32> = targets.fake.iter().map(|fake| if *fake { 0.0 } else { 1.0 }).collect();
    let truth = Tensor::<1>::from_data(TensorData::new(truth, says.dims()), &says.device());
    let accuracy = says.equal(truth).float().mean();
    (loss.clone().backward(), vec![loss.without_autodiff(), accuracy])
}

fn decoder(
    model: &AnyHead,
    task: &MaskingTask,
    context: &Context,
    batch: &Batch,
    clean: Features,
    targets: &Targets,
) -> (Gradients, Vec<Tensor<1>>) {
    let images = batch.len();
    let raw = model.maps(&clean.input(), ClassSelection::Each(targets.class.clone()));
    let MaskRegulariser { loss: mut surrogate, tv, area, empty } = task.loss.regulariser(raw.clone(), &targets.fake);
    let mut total = surrogate.clone().without_autodiff();

    // A wrong class can be neither preserved nor destroyed: the classifier sees the other images alone.
    let real: Vec<i64> = (0..).zip(&targets.fake).filter(|(_, fake)| !**fake).map(|(row, _)| row).collect();
    let mut terms = [(); 3].map(|()| Tensor::<1>::zeros([1], &context.device));
    if !real.is_empty() {
        let numbers: Vec<usize> =
            batch.indices.iter().zip(&targets.fake).filter(|(_, fake)| !**fake).map(|(number, _)| *number).collect();
        let count = real.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(real, [count]), &context.device);
        let class = targets.class.clone().select(0, rows.clone());
        let pixels = clean.images.select(0, rows.clone());
        let mask = sigmoid(raw.select(0, rows));
        for (i, part) in [Part::Preserve, Part::Destroy].into_iter().enumerate() {
            let (purpose, mask) = match part {
                Part::Preserve => ("infill of the shown", mask.clone()),
                Part::Destroy => ("infill of the hidden", mask.clone().neg().add_scalar(1.0)),
            };
            let draw = (task.seed, purpose, batch.step);
            let preprocessing = &context.extractor.backbone.spec().preprocessing;
            let seen = task.infill.draw(pixels.clone(), preprocessing, draw, &numbers).show(mask);
            let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| {
                let class = class.clone().narrow(0, rows.start, rows.len());
                task.loss.logit_gradient(part, logits, class, images)
            };
            // The classifier stands outside the decoder's graph: its gradient comes in as a constant.
            let answer = context.extractor.backbone.vjp(seen.clone().without_autodiff(), &cotangent);
            if let Tap::Map(gradient) = answer.gradient {
                surrogate = surrogate + (seen * gradient.autodiff()).sum();
            }
            let term = task.loss.term(part, answer.logits.clone(), class.clone()).sum().div_scalar(images as f64);
            total = total + term.clone().mul_scalar(task.loss.weight(part));
            terms[i] = term;
            if part == Part::Preserve {
                terms[2] = answer.logits.argmax(1).reshape([count]).equal(class.clone()).float().mean();
            }
        }
    }
    let [preserve, destroy, agreement] = terms;
    (surrogate.backward(), vec![total, preserve, destroy, area, tv, empty, agreement])
}
