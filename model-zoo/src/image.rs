//! Photographs to pixels: decode, orient, resize, crop, normalise.

use serde::{Deserialize, Serialize};

/// An RGB image in memory, channels first: `[3, height, width]`, every value in 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Row-major values, `3 * height * width` of them, channel after channel (R, G, B).
    pub values: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The interpolation used when a photograph is resized; both are antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle filter (torchvision's and PIL's `bilinear` with antialiasing).
    #[default]
    Bilinear,
    /// Catmull-Rom (PIL's `bicubic`).
    Bicubic,
}

/// How a backbone wants its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Length of the short side after resizing, in pixels.
    pub resize: usize,
    /// Side of the square crop, in pixels.
    pub crop: usize,
    /// Interpolation of the resize.
    pub filter: Filter,
    /// Mean of each channel, for values in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, for values in 0..=1.
    pub std: [f32; 3],
}
