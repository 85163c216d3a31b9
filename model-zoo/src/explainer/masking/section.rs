//! The section `explainer` of a fast masking model (Dabkowski and Gal, 2017).

use std::sync::Arc;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{Activation, MaskingModelConfig, ScaleError, Upsampling};
use super::infill::Infill;
use super::loss::MaskLoss;
use super::model::MaskingModel;
use super::task::{DecoderTask, SelectorTask};
use crate::backbone::{BackboneSpec, TapSpec, architecture};
use crate::explainer::learned::{LearnedExplainer, MethodRequirements, MethodSection, RunKeys};
use crate::head::ShapeError;
use crate::range::{at_least_one, count, fraction, not_negative, passes};
use crate::training::{Adam, Length, Optimizer, PhaseSpec, RunSettings, Schedule, StepDecay, TrainingTask};

/// Shape, loss and training of a masking model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct MaskingModelSection {
    /// From the decoder's output to the mask.
    #[garde(skip)]
    pub activation: Activation,
    /// Whether a class selector tells the decoder which class to look for. Without one (the paper's model for CIFAR-10)
    /// an image has one mask, that of the predicted class, and there is no selector to train.
    #[garde(skip)]
    pub class_selector: bool,
    /// How the decoder doubles the side of its maps.
    #[garde(skip)]
    pub upsampling: Upsampling,
    /// Channels of the decoder's last stage; each stage before it has twice as many.
    #[garde(custom(decoder_width))]
    #[schemars(range(min = 1, max = 1024))]
    pub width: usize,
    /// Threshold subtracted from the selector's scores; a larger value keeps fewer cells.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub confidence: f64,
    /// The decoder's loss.
    #[garde(dive)]
    pub loss: MaskLoss,
    /// Fill for the pixels that the mask removes.
    #[garde(dive)]
    pub infill: Infill,
    /// The two parts of the training, one after the other.
    #[garde(dive)]
    pub phases: Phases,
}

impl Default for MaskingModelSection {
    fn default() -> Self {
        Self {
            activation: Activation::default(),
            class_selector: true,
            upsampling: Upsampling::default(),
            width: 64,
            confidence: 0.0,
            loss: MaskLoss::default(),
            infill: Infill::default(),
            phases: Phases::default(),
        }
    }
}

impl MethodSection for MaskingModelSection {
    const TITLE: &'static str = "Fast masking model";
    const REQUIREMENTS: MethodRequirements = MethodRequirements {
        one_process: true,
        batch_norm: false,
        ignored: &[
            ("masking", "a masking model uses explainer.infill"),
            ("objective", "a masking model uses explainer.loss"),
            ("optimizer", "a masking model uses explainer.phases"),
            ("schedule", "a masking model uses explainer.phases"),
            ("train.epochs", "a masking model uses explainer.phases"),
        ],
        ..MethodRequirements::NONE
    };

    fn problems(&self, keys: &RunKeys<'_>) -> Vec<String> {
        let Phases { selector, decoder } = &self.phases;
        let mut found: Vec<String> = self.tap_problem(keys).into_iter().collect();
        for (name, phase) in [("selector", PhaseSettings::from(selector)), ("decoder", PhaseSettings::from(decoder))] {
            let at = format!("explainer.phases.{name}.");
            found.extend(phase.optimizer.problem(&at));
            found.extend(phase.schedule.problem(&at));
        }
        found
    }

    fn notes(&self) -> Vec<String> {
        let unused = !self.class_selector && self.phases.selector != SelectorPhase::default();
        let note = "explainer.phases.selector: ignored, class_selector is false";
        unused.then(|| note.into()).into_iter().collect()
    }
}

impl LearnedExplainer for MaskingModelSection {
    type Config = MaskingModelConfig;

    fn default_taps(&self, backbone: &BackboneSpec) -> Vec<String> {
        MaskingModelConfig::scales(&backbone.taps).into_iter().map(|tap| tap.name.clone()).collect()
    }

    fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<MaskingModelConfig, ShapeError> {
        self.over(taps, classes, side).map_err(ShapeError::new)
    }

    fn phases(&self, run: &RunSettings<'_>) -> Vec<PhaseSpec<MaskingModel>> {
        let Phases { selector, decoder } = &self.phases;
        let seed = run.seed;
        let decoder_task = DecoderTask {
            loss: self.loss.clone(),
            infill: self.infill.clone(),
            fake_targets: decoder.fake_targets,
            seed,
        };
        let selector_task = SelectorTask { fake_targets: selector.fake_targets, seed };
        let selector = self.class_selector.then(|| PhaseSettings::from(selector).phase("selector", selector_task));
        selector.into_iter().chain([PhaseSettings::from(decoder).phase("decoder", decoder_task)]).collect()
    }

    fn masking(&self, _: &RunSettings<'_>) -> &'static str {
        "infill"
    }
}

impl MaskingModelSection {
    /// The model's shape over these taps of images of `side` pixels.
    ///
    /// # Errors
    /// [`ScaleError`] for taps that the decoder cannot climb.
    fn over(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<MaskingModelConfig, ScaleError> {
        Ok(MaskingModelConfig {
            class_selector: self.class_selector,
            width: self.width,
            activation: self.activation,
            upsampling: self.upsampling,
            confidence: self.confidence,
            ..MaskingModelConfig::new(taps, classes, side)?
        })
    }

    /// What is wrong with the taps of a run.
    fn tap_problem(&self, keys: &RunKeys<'_>) -> Option<String> {
        let architecture = architecture(keys.backbone)?;
        let taps: Vec<TapSpec> = match keys.taps {
            None => MaskingModelConfig::scales(&architecture.taps).into_iter().cloned().collect(),
            Some(names) => {
                let tap = |name: &String| architecture.taps.iter().find(|tap| tap.name == *name).cloned();
                names.iter().map(tap).collect::<Option<_>>()?
            }
        };
        let side = keys.crop.unwrap_or(architecture.preprocessing.crop);
        self.over(&taps, 1, side).err().map(|error| format!("backbone.taps: {error}"))
    }
}

/// Training in two phases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Phases {
    /// First the class selector learns to tell whether an image shows a class.
    #[garde(dive)]
    pub selector: SelectorPhase,
    /// Then the decoder learns to draw masks; the selector stays as it is.
    #[garde(dive)]
    pub decoder: DecoderPhase,
}

/// One phase of a training, whichever it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseSettings {
    /// Steps, unless `epochs` is set.
    pub steps: usize,
    /// Passes over the training images instead.
    pub epochs: Option<usize>,
    /// Images a step.
    pub batch_size: usize,
    /// Probability that the selector is given a wrong class.
    pub fake_targets: f64,
    /// The phase's own optimizer, which starts afresh.
    pub optimizer: Optimizer,
    /// How the learning rate moves over the phase.
    pub schedule: Schedule,
}

impl PhaseSettings {
    /// A phase of a run with this task.
    fn phase(self, name: &'static str, task: impl TrainingTask<MaskingModel> + 'static) -> PhaseSpec<MaskingModel> {
        let length = self.epochs.map_or(Length::Steps(self.steps), Length::Epochs);
        let Self { batch_size, optimizer, schedule, .. } = self;
        PhaseSpec { name: Some(name), task: Arc::new(task), batch_size, length, optimizer, schedule }
    }
}

/// Declares a phase's section with defaults of its own.
macro_rules! phase {
    ($(#[$meta:meta])* $name:ident: $steps:literal steps of $batch:literal, $fake:literal fake) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Steps, unless `epochs` is set.
            #[garde(custom(count))]
            #[schemars(range(min = 1, max = 1_000_000_000))]
            pub steps: usize,
            /// Passes over the training images, in place of `steps`.
            #[garde(inner(custom(passes)))]
            #[schemars(range(min = 1, max = 100_000))]
            pub epochs: Option<usize>,
            /// Images a step.
            #[garde(custom(at_least_one))]
            #[schemars(range(min = 1))]
            pub batch_size: usize,
            /// Probability that the selector is given a wrong class, which the image is not to have.
            #[garde(custom(fraction))]
            #[schemars(range(min = 0.0, max = 1.0))]
            pub fake_targets: f64,
            /// The optimizer of the phase.
            #[garde(dive)]
            pub optimizer: Optimizer,
            /// How the learning rate moves over the phase.
            #[garde(dive)]
            pub schedule: Schedule,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    steps: $steps,
                    epochs: None,
                    batch_size: $batch,
                    fake_targets: $fake,
                    optimizer: Optimizer::Adam(Adam { weight_decay: 1e-4, ..Adam::default() }),
                    schedule: Schedule::StepDecay(StepDecay::default()),
                }
            }
        }

        impl From<&$name> for PhaseSettings {
            fn from(section: &$name) -> Self {
                let $name { steps, epochs, batch_size, fake_targets, optimizer, schedule } = section.clone();
                Self { steps, epochs, batch_size, fake_targets, optimizer, schedule }
            }
        }
    };
}

phase! {
    /// Training of the class selector. Defaults: the paper's.
    SelectorPhase: 8500 steps of 128, 0.5 fake
}

phase! {
    /// Training of the decoder. Defaults: the paper's. The target of a wrong class is an empty mask.
    DecoderPhase: 3000 steps of 64, 0.3 fake
}

/// Channels of a decoder's last stage.
fn decoder_width(value: &usize, _: &()) -> garde::Result {
    match value {
        1..=1024 => Ok(()),
        _ => Err(garde::Error::new(format!("found {value}, expected 1 to 1024 channels"))),
    }
}
