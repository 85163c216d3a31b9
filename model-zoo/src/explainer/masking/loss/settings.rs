//! The YAML section `explainer.loss` of a masking model: terms, weights and exponents of the decoder's loss.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::range::{not_negative, positive};
use crate::tagged;

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
