//! The section `explainer` of a fast masking model (Dabkowski and Gal, 2017).

use super::optim::{Adam, Optimizer, Schedule, StepDecay};
use super::range::{at_least_one, count, fraction, not_negative, positive};
use super::tagged::tagged;
use explainer_zoo::backbone::TapSpec;
use explainer_zoo::explainer::masking::{self, MaskingModelConfig, ScaleError};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape, loss and training of a masking model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct MaskingModel {
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
    /// Subtracted from the selector's scores: the larger, the surer it has to be that a cell shows the class.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub confidence: f64,
    /// The decoder's loss.
    #[garde(dive)]
    pub loss: MaskLoss,
    /// What the classifier sees in the place of what a mask leaves out.
    #[garde(dive)]
    pub infill: Infill,
    /// The two parts of the training, one after the other.
    #[garde(dive)]
    pub phases: Phases,
}

impl Default for MaskingModel {
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

impl MaskingModel {
    /// The model's shape over these taps of images of `side` pixels.
    ///
    /// # Errors
    /// [`ScaleError`] for taps that the decoder cannot climb.
    pub fn shape(&self, taps: &[TapSpec], classes: usize, side: usize) -> Result<MaskingModelConfig, ScaleError> {
        Ok(MaskingModelConfig {
            class_selector: self.class_selector,
            width: self.width,
            activation: self.activation.into(),
            upsampling: self.upsampling.into(),
            confidence: self.confidence,
            ..MaskingModelConfig::new(taps, classes, side)?
        })
    }
}

/// How the decoder's output becomes a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Two channels u and v: |u| / (|u| + |v|), the paper's.
    #[default]
    Ratio,
    /// One channel u: sigmoid(u / 2), the simple variant.
    Sigmoid,
}

impl From<Activation> for masking::Activation {
    fn from(own: Activation) -> Self {
        match own {
            Activation::Ratio => Self::Ratio,
            Activation::Sigmoid => Self::Sigmoid,
        }
    }
}

/// How a stage of the decoder doubles the side of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// A convolution to four times the channels, which are then laid out as 2x2 cells.
    #[default]
    SubPixel,
    /// A convolution and bilinear interpolation.
    Bilinear,
}

impl From<Upsampling> for masking::Upsampling {
    fn from(own: Upsampling) -> Self {
        match own {
            Upsampling::SubPixel => Self::SubPixel,
            Upsampling::Bilinear => Self::Bilinear,
        }
    }
}

tagged! {
    /// The decoder's loss: smoothness and area of the mask, preservation of the class where the image is shown, and its
    /// destruction where the image is hidden, each with its weight. A preset's weights can be changed one by one.
    pub enum MaskLoss by "preset" (MaskLossPreset) {
        /// The paper's: `tv * TV(m) + area * mean((m + 5e-4)^area_power) - preserve * log f(shown)
        /// + destroy * f(hidden)^destroy_power`, f the softmax score of the class.
        "paper" => Paper(PaperLoss),
        /// The released program's: the same terms, but the class is preserved and destroyed by margins between its
        /// logit and the largest other one.
        "released" => Released(ReleasedLoss),
    }
}

impl Default for MaskLoss {
    fn default() -> Self {
        Self::Released(ReleasedLoss::default())
    }
}

/// The paper's loss with the weights as printed. Its smoothness outweighs its area by far: trained with it, masks of the
/// quickstart's images stay flat. With `tv` and `area` exchanged they are sharp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct PaperLoss {
    /// Weight of the total variation: squared differences of neighbouring cells, summed over the mask.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub tv: f64,
    /// Weight of the area term, which makes masks small.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub area: f64,
    /// Exponent of the area term. Above 0; below 1 it favours masks that are near 0 or 1.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub area_power: f64,
    /// Weight of the class's negative log score where the mask shows the image; also that of a fake target's term.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub preserve: f64,
    /// Weight of the class's score where the mask hides the image.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub destroy: f64,
    /// Exponent of that score. Above 0; below 1 it keeps pressing on small scores.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub destroy_power: f64,
}

impl Default for PaperLoss {
    fn default() -> Self {
        Self { tv: 10.0, area: 1e-3, area_power: 0.3, preserve: 1.0, destroy: 5.0, destroy_power: 0.3 }
    }
}

/// The released program's loss and weights: the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct ReleasedLoss {
    /// Weight of the smoothness: half the squared differences of neighbouring cells, summed over the mask, and the
    /// border's part.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub tv: f64,
    /// Weight, inside the smoothness, of the mask's four borders.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub border: f64,
    /// Weight of the area term, which makes masks small.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub area: f64,
    /// Exponent of the area term. Above 0; below 1 it favours masks that are near 0 or 1.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub area_power: f64,
    /// Weight of preservation; also that of a fake target's term.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub preserve: f64,
    /// By how much the class's logit is to exceed the largest other one where the mask shows the image.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub preserve_margin: f64,
    /// Weight of destruction.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub destroy: f64,
    /// By how much the class's logit is to fall behind the largest other one where the mask hides the image.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub destroy_margin: f64,
}

impl Default for ReleasedLoss {
    fn default() -> Self {
        Self {
            tv: 0.005,
            border: 0.3,
            area: 8.0,
            area_power: 0.3,
            preserve: 0.3,
            preserve_margin: 1.0,
            destroy: 1.0,
            destroy_margin: 5.0,
        }
    }
}

/// What the classifier sees: `m * x + (1 - m) * A`, A drawn anew for every image and step. The figures are the paper's,
/// for pixels in -1..1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Infill {
    /// How often A is the image itself, blurred (Gaussian, kernel 55, sigma 11); else it is a colour with noise.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub blur: f64,
    /// Extent of the uniform distribution that each channel of the colour is drawn from, around mid-grey.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub colour: f64,
    /// Standard deviation of the colour's noise.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub noise: f64,
    /// Standard deviation of the noise that is added to x.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub image_noise: f64,
}

impl Default for Infill {
    fn default() -> Self {
        Self { blur: 0.5, colour: 0.66, noise: 0.11, image_noise: 0.03 }
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
            #[garde(inner(custom(super::range::passes)))]
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
