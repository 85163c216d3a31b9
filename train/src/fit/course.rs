//! The course of a run through its phases: each a burn-train `Learner` of its own, which takes the explainer over from
//! the last one.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use explainer_zoo::explainer::AnyHeadConfig;
use explainer_zoo::explainer::tame::FuseInit;

use super::FitError;
use super::batches::Batches;
use super::checkpoint::{State, Store};
use super::first;
use super::phase::Phase;
use super::progress::{NoHistory, Term, TrainingProgress};
use super::schedule_step::Scheduled;
use super::strategy::{Outcome, Routine, StepStrategy};
use super::trainee::{Exchange, Trainee, lock};
use crate::config::Config;
use crate::data::{Broken, ImageSet};
use crate::distributed::ProcessGroup;

/// What the phases of a run share.
pub(super) struct Course<'a> {
    pub config: &'a Config,
    /// What is trained.
    pub head: &'a AnyHeadConfig,
    /// Those who train it.
    pub group: &'a Arc<ProcessGroup>,
    /// Without autodiff.
    pub device: &'a Device,
    pub train: Arc<dyn ImageSet>,
    /// As many of the validation images as every validation looks at.
    pub valid: Batches,
    pub output: &'a Path,
    pub store: &'a Store,
    pub quiet: bool,
    pub interrupter: &'a Interrupter,
    /// Whether where the run stands is in the store, or is the start.
    pub saved: bool,
    /// Images that could not be read so far.
    pub broken: Vec<Broken>,
    /// Time spent waiting for images so far.
    pub waited: Duration,
}

/// Where a run stands between two phases, or at a checkpoint inside of one.
pub(super) struct Position {
    pub state: State,
    /// The explainer; none at the start.
    pub head: Option<ModuleRecord>,
    /// Its optimizer, inside a phase.
    pub optimizer: Option<OptimizerRecord>,
    /// The explainer of the best validation, if this process has made it.
    pub best: Option<Trainee>,
}

impl Course<'_> {
    /// Trains from `at` to the end of `phase`, or until the run is stopped: what was trained, and where it stands.
    ///
    /// # Errors
    /// [`FitError`]; checkpoints and the log up to then are in the output folder.
    pub fn run(&mut self, phase: &Phase, at: Position) -> Result<(Trainee, Position), FitError> {
        let (config, device) = (self.config, self.device);
        let exchange = Arc::new(Exchange::default());
        let head = self.head.explainer(config.train.seed, &device.clone().autodiff());
        let head = match config.explainer.fuse_init() {
            FuseInit::Uniform => head,
            FuseInit::Zero => head.with_zero_fuser(),
        };
        let head = head.synchronised(phase.context.sync.as_ref());
        let trainee = Trainee::new(head, phase.context.clone(), exchange.clone());
        let (optimizer, momentum) = phase.optimizer.build()?;
        let from = at.state.step.saturating_sub(phase.first);
        let scheduled = Scheduled {
            schedule: phase.schedule.clone(),
            lr: phase.optimizer.lr(),
            total: phase.steps,
            next: from,
            momentum,
        };
        let mut learner = Learner::new(trainee, optimizer, scheduled);
        if let Some(head) = at.head {
            learner.load_model(head);
        }
        // At a phase's first step the optimizer is a new one: what the checkpoint holds is the last phase's.
        if let Some(optimizer) = at.optimizer.filter(|_| from > 0) {
            learner.load_optim(optimizer);
        }
        first::weights(&mut learner, self.group)?;

        let train = Batches::new(self.train.clone(), phase.plan.clone(), from).behind(phase.first);
        let valid = self.valid.clone();
        let (train_state, valid_state) = (train.state(), valid.state());
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let step = at.state.step;
        let routine = Routine {
            state: at.state,
            phase: phase.name,
            first: phase.first,
            end: phase.end(),
            validates: phase.validates(),
            steps_per_epoch: phase.per_epoch,
            checkpoint_every: config.train.checkpoint_every,
            validate_every: config.train.validate_every,
            log_every: config.train.log_every,
            // In the CPU's own memory a read waits for nothing.
            read_every: if *device == Device::flex() { 1 } else { config.train.log_every },
            store: self.store.clone(),
            saved: self.saved,
            log: self.output.join("metrics.jsonl"),
            train_state: train_state.clone(),
            valid_state: valid_state.clone(),
            images: self.train.clone(),
            group: self.group.clone(),
            max_broken: config.data.max_broken,
            cache: phase.context.cache.clone(),
            overlap: config.distributed.overlap && !self.group.is_single(),
        };
        let images = [phase.steps, from].map(|steps| steps * phase.plan.batch_size);
        let progress = TrainingProgress::new(phase.report(), images.into(), step, config.train.log_every, self.quiet);
        let strategy = StepStrategy::new(device.clone(), exchange, routine, outcome.clone());
        let mut training = SupervisedTraining::new(self.output, Arc::new(train), Arc::new(valid))
            .renderer(Box::new(progress))
            .with_metric_logger(NoHistory)
            .with_application_logger(None)
            .with_interrupter(self.interrupter.clone())
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
        for term in Term::all(phase.report()) {
            training = training.metric_train_numeric(term);
        }
        let result = training.launch(learner);

        let outcome = std::mem::take(&mut *lock(&outcome));
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        if let Some(error) = result.error {
            return Err(FitError::Stopped(error.to_string()));
        }
        let Some(state) = outcome.state else { return Err(FitError::Stopped("the loop did not start".into())) };
        let (train_state, valid_state) =
            (std::mem::take(&mut *lock(&train_state)), std::mem::take(&mut *lock(&valid_state)));
        self.waited += train_state.waited;
        // Each rank knows of those in its own shares.
        let broken: Vec<Broken> = train_state.broken.into_iter().chain(valid_state.broken).collect();
        for broken in self.group.all_gather(&broken)?.concat() {
            // Another phase may have met it already.
            if !self.broken.contains(&broken) {
                self.broken.push(broken);
            }
        }
        self.saved = true; // every phase ends with a checkpoint
        let trainee = Trainee::new(result.model.head, phase.context.clone(), Arc::default());
        let head = Some(trainee.clone().into_record());
        Ok((trainee, Position { state, head, optimizer: None, best: outcome.best.or(at.best) }))
    }
}
