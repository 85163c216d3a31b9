//! The preprocessing of a classifier without a registered architecture.

use explainer_zoo::image::{self, Filter};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use explainer_zoo::range::{channel_deviations, channel_means, side};

/// Resize, centre crop and normalisation of an image for the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Short side after resizing, in pixels; at least `crop`.
    #[garde(custom(side))]
    #[schemars(range(min = 8, max = 4096))]
    pub resize: usize,
    /// Side of the square crop, in pixels.
    #[garde(custom(side))]
    #[schemars(range(min = 8, max = 4096))]
    pub crop: usize,
    /// Interpolation of the resize.
    #[garde(skip)]
    #[serde(default)]
    pub filter: Interpolation,
    /// Mean of each channel (red, green, blue), for values in 0..=1.
    #[garde(custom(channel_means))]
    pub mean: [f32; 3],
    /// Standard deviation of each channel, for values in 0..=1; above 0.
    #[garde(custom(channel_deviations))]
    pub std: [f32; 3],
}

/// An antialiased interpolation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle filter, as most classifiers of torchvision.
    #[default]
    Bilinear,
    /// Catmull-Rom, as most classifiers of timm.
    Bicubic,
}

impl From<&Preprocessing> for image::Preprocessing {
    fn from(given: &Preprocessing) -> Self {
        let Preprocessing { resize, crop, filter, mean, std } = *given;
        let filter = match filter {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
        };
        Self { resize, crop, filter, mean, std }
    }
}
