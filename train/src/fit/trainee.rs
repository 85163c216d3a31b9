//! One training step of a TAME-family head, and one validation step.

use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{ExecutionError, Tensor, TensorReadError, activation::sigmoid};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use explainer_zoo::backbone::{BackboneError, Tap};
use explainer_zoo::explainer::{AnyExplainer, ClassSelection, Explainer, View, min_max};

use super::clip::{GradientError, clip_gradients};
use super::context::{Context, Masked};
use super::progress::Figures;
use crate::data::Batch;
use crate::metric::{Confidence, MaskedConfidence};
use crate::objective::{Terms, cross_entropy, matching, upsample};

/// The head and what it is trained with, as burn-train's learner holds it.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The only thing that is trained.
    pub head: AnyExplainer,
    #[module(skip)]
    context: Arc<Context>,
    #[module(skip)]
    exchange: Arc<Exchange>,
}

/// What passes between the training strategy and the optimizer, which burn-train's learner keeps to itself.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The optimizer's state, for which the strategy asks by a step without gradients.
    pub record: Mutex<Option<Record>>,
    /// Why the last step did not update the head.
    pub failure: Mutex<Option<GradientError>>,
}

/// An optimizer's state.
pub struct Record(pub OptimizerRecord);

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record(..)")
    }
}

/// What a training step reports; values stay on the device until they are read.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The loss and its terms.
    pub terms: Terms,
    /// Share of the batch whose masked image is still classified as the whole one, `[1]`.
    pub agreement: Tensor<1>,
    /// Images in the batch.
    pub images: usize,
}

impl StepOutput {
    /// Reads all figures from the device at once.
    ///
    /// # Errors
    /// When the device failed to compute them.
    pub fn figures(&self) -> Result<Figures, TensorReadError> {
        let Terms { total, ce, area, smooth } = self.terms.clone();
        let all = Tensor::cat(vec![total, ce, area, smooth, self.agreement.clone()], 0).try_into_vec_as::<f32>()?;
        let mut values = [f64::NAN; 5];
        values.iter_mut().zip(all).for_each(|(value, read)| *value = f64::from(read));
        Ok(Figures { values, images: self.images })
    }
}

impl Adaptor<Figures> for StepOutput {
    fn adapt(&self) -> Figures {
        self.figures().unwrap_or(Figures { values: [f64::NAN; 5], images: self.images })
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

/// What a validation step reports.
#[derive(Clone, Debug)]
pub struct Validated(pub Vec<Confidence>);

impl ItemLazy for Validated {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Trainee {
    /// A head in its surroundings.
    pub fn new(head: AnyExplainer, context: Arc<Context>, exchange: Arc<Exchange>) -> Self {
        Self { head, context, exchange }
    }

    /// As [`Context::answered`].
    ///
    /// # Errors
    /// Why a classifier did not answer.
    pub fn answered(&self) -> Result<(), BackboneError> {
        self.context.answered()
    }

    /// The maps of each image's predicted class as inference shows them: images `[B,3,H,W]` in 0..1 to `[B,1,h,w]`.
    pub fn explain(&self, pixels: Tensor<4>) -> (super::context::Clean, Tensor<4>) {
        let clean = self.context.clean(pixels);
        let view = View { images: &clean.images, features: &clean.features };
        let maps = matching(self.head.maps(&view, ClassSelection::Of(clean.class.clone())));
        (clean, min_max(maps))
    }
}

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> TrainOutput<StepOutput> {
        let context = &self.context;
        let images = batch.len();
        let clean = context.clean(batch.images(&context.device));
        let view = View { images: &clean.images, features: &clean.features };
        let maps = sigmoid(self.head.maps(&view, ClassSelection::Of(clean.class.clone())));
        let mask = matching(maps.clone());

        let class = clean.class.clone();
        let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| {
            let class = class.clone().narrow(0, rows.start, rows.len());
            context.objective.logit_gradient(logits, class, images)
        };
        // The classifier stands outside the head's graph: its gradient comes in as a constant.
        let (masked, answer) = match (context.masked, clean.taps.first(), context.adapters.first()) {
            (Masked::Feature, Some(tap), Some(adapter)) => {
                let map = adapter.apply(tap.clone());
                let [_, _, height, width] = map.dims();
                let masked = map * upsample(mask, [height, width]);
                let feature = adapter.restore(masked.clone().inner(), tap);
                (masked, context.backbone.answer_at(clean.images, context.taps[0], feature, &cotangent))
            }
            (Masked::Image(masking), ..) => {
                let masked = masking.apply(clean.images, mask, &context.backbone.spec().preprocessing);
                let answer = context.backbone.answer(masked.clone().inner(), &cotangent);
                (masked, answer)
            }
            (Masked::Feature, ..) => {
                let answer = context.backbone.answer(clean.images.clone(), &cotangent);
                (clean.images.autodiff(), answer)
            }
        };
        let pulled = match (&answer.gradient, context.adapters.first()) {
            (Tap::Map(gradient), _) => gradient.clone(),
            (tokens, Some(adapter)) => adapter.apply(tokens.clone()),
            (Tap::Tokens(_), None) => masked.clone().inner().zeros_like(),
        };
        let regulariser = context.objective.regulariser(maps);
        let surrogate = (masked * pulled.autodiff()).sum() + regulariser.loss.clone();
        let gradients = surrogate.backward();

        let agrees = answer.logits.clone().argmax(1).reshape([images]).equal(clean.class.clone());
        let agreement = agrees.float().mean();
        let ce = cross_entropy(answer.logits, clean.class);
        let terms = context.objective.terms(ce, &regulariser);
        TrainOutput::new(self, gradients, StepOutput { terms, agreement, images })
    }

    fn optimize(self, optim: &mut ModuleOptimizer, lr: ModuleLearningRate, gradients: GradientsParams) -> Self {
        if gradients.is_empty() {
            *lock(&self.exchange.record) = Some(Record(optim.to_record()));
            return self;
        }
        // Without a limit too: a gradient that is not finite must not reach the head.
        match clip_gradients(&self, gradients, self.context.clip_norm) {
            Ok((gradients, _)) => optim.step(lr, self, gradients),
            Err(failure) => {
                *lock(&self.exchange.failure) = Some(failure);
                self
            }
        }
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = Validated;

    fn step(&self, batch: Batch) -> Validated {
        let (clean, maps) = self.explain(batch.images(&self.context.device));
        let metric = MaskedConfidence::default();
        let backbone = self.context.backbone.as_ref();
        let preprocessing = &backbone.spec().preprocessing;
        Validated(metric.measure(backbone, preprocessing, &clean.images, clean.logits, &clean.class, maps))
    }
}

/// A lock whose holder panicked still holds what it held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
