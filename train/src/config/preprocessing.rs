//! How a classifier without a registered name wants its images.

use explainer_zoo::image::{self, Filter};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use explainer_zoo::range::{channel_deviations, channel_means, side};

/// Resize, centre crop and normalisation of an image before the classifier sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Short side after resizing, in pixels; `crop` at least.
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
    /// Standard deviation of each channel, likewise; above 0.
    #[garde(custom(channel_deviations))]
    pub std: [f32; 3],
}

/// An interpolation, antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle filter, most of torchvision's classifiers.
    #[default]
    Bilinear,
    /// Catmull-Rom, most of timm's classifiers.
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
