//! Mean curves of metrics over the images of a set.

use serde::{Deserialize, Serialize};

/// The sum of the curves of some images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Sum of the scores at each step.
    pub sum: Vec<f64>,
    /// Number of images.
    pub images: usize,
}

impl Curve {
    /// Adds another sum of curves with the same number of steps.
    pub fn add(&mut self, other: &Self) {
        self.sum.resize(self.sum.len().max(other.sum.len()), 0.0);
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, value)| *sum += value);
        self.images += other.images;
    }

    /// The mean curve.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.images.max(1) as f64).collect()
    }
}
