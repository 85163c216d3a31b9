//! What is trained, as burn-train knows it: its training step, by family, and its validation step.

use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use explainer_zoo::backbone::BackboneError;
use explainer_zoo::explainer::{AnyHead, ClassSelection, ExplainerHead, ExplainerInput};

use super::clip::{GradientError, Norms, clip_gradients};
use super::context::{Clean, Context, Task};
use super::gradients::Flat;
use super::progress::{Figures, Report};
use super::step;
use crate::data::Batch;
use explainer_metrics::{Confidence, MaskedConfidence};

/// The head and what it is trained with, as burn-train's learner holds it.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The only thing that is trained.
    pub head: AnyHead,
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
    /// The gradients of the last step, measured.
    pub norms: Mutex<Option<Norms>>,
    /// The clean pass of the batch of a step, where it was made before the step.
    pub clean: Mutex<Option<(usize, Clean)>>,
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
    /// What they are.
    pub report: Report,
    /// One value for each name of the report.
    pub values: Tensor<1>,
    /// Images in the batch.
    pub images: usize,
    /// The figures to show: the last that were read, of this step or of an earlier one.
    pub known: Option<Figures>,
}

impl StepOutput {
    /// Reads all figures from the device at once.
    ///
    /// # Errors
    /// When the device failed to compute them.
    pub fn figures(&self) -> Result<Figures, TensorReadError> {
        let values = self.values.clone().try_into_vec_as::<f32>()?.into_iter().map(f64::from).collect();
        Ok(Figures { report: self.report, values, images: self.images })
    }
}

impl Adaptor<Figures> for StepOutput {
    fn adapt(&self) -> Figures {
        let unread = || Figures { report: self.report, values: Vec::new(), images: self.images };
        self.known.clone().unwrap_or_else(unread)
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
    pub fn new(head: AnyHead, context: Arc<Context>, exchange: Arc<Exchange>) -> Self {
        Self { head, context, exchange }
    }

    /// Makes the gradients of a share, which has the part `weight` of the batch, those of the whole batch; `meanwhile` is
    /// called while the other ranks' are on their way. Running statistics that each rank has moved by its share alone become
    /// those of all, weighted as the shares are.
    ///
    /// # Errors
    /// As [`Flat::sum`].
    pub fn sum(
        &self,
        gradients: &mut GradientsParams,
        weight: f64,
        meanwhile: Option<impl FnOnce()>,
    ) -> Result<(), GradientError> {
        let Context { group, sync, .. } = self.context.as_ref();
        if group.is_single() {
            return Ok(());
        }
        let own = if sync.is_some() { Vec::new() } else { self.head.running() };
        let mut flat = Flat::new(self, gradients, own.iter().map(|value| value * weight as f32).collect());
        match meanwhile {
            None => flat.sum(group)?,
            Some(meanwhile) => std::thread::scope(|scope| {
                let sum = scope.spawn(|| flat.sum(group));
                meanwhile();
                sum.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?,
        }
        let running = flat.restore(self, gradients);
        if !running.is_empty() {
            self.head.set_running(&running);
        }
        Ok(())
    }

    /// Makes the clean pass of a batch, which does not depend on the head, before its step asks for it.
    pub fn look(&self, batch: &Batch) {
        if !batch.is_empty() {
            let clean = self.context.clean(batch.images(&self.context.device));
            *lock(&self.exchange.clean) = Some((batch.step, clean));
        }
    }

    /// As [`Context::answered`].
    ///
    /// # Errors
    /// Why a classifier did not answer.
    pub fn check_failures(&self) -> Result<(), BackboneError> {
        self.context.check_failures()
    }

    /// The maps of each image's predicted class as inference shows them: images `[B,3,H,W]` in 0..1 to `[B,1,h,w]`.
    pub fn explain(&self, pixels: Tensor<4>) -> (Clean, Tensor<4>) {
        let clean = self.context.clean(pixels);
        let view = ExplainerInput { images: &clean.images, features: &clean.features };
        let maps = self.head.maps(&view, ClassSelection::Each(clean.class.clone()));
        (clean, self.head.postprocess(maps))
    }
}

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> TrainOutput<StepOutput> {
        let (gradients, output) = match &self.context.task {
            Task::Tame(task) => {
                let seen = lock(&self.exchange.clean).take().filter(|(step, _)| *step == batch.step);
                step::tame(&self.head, task, &self.context, &batch, seen.map(|(_, clean)| clean))
            }
            Task::MaskingModel(task) => step::masking_model(&self.head, task, &self.context, &batch),
        };
        TrainOutput { grads: gradients, item: output }
    }

    fn optimize(self, optim: &mut ModuleOptimizer, lr: ModuleLearningRate, gradients: GradientsParams) -> Self {
        if gradients.is_empty() {
            *lock(&self.exchange.record) = Some(Record(optim.to_record()));
            return self;
        }
        // Without a limit too: gradients that are not finite stop the run before their head is kept.
        let (gradients, norms) = clip_gradients(&self, gradients, self.context.clip_norm);
        *lock(&self.exchange.norms) = norms;
        optim.step(lr, self, gradients)
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
