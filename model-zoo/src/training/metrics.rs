//! The metrics of a training step: on the device until they are read, then as numbers.

use burn::tensor::{Tensor, TensorReadError};

/// The names of a step's metrics, the loss first, and whether a higher value is better.
pub type MetricNames = &'static [(&'static str, bool)];

/// The metrics of a training step on one rank's share of a batch. The values stay on the device until they are read.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// Their names.
    pub report: MetricNames,
    /// One value for each name, `[n]`.
    pub values: Tensor<1>,
    /// Images in the share.
    pub images: usize,
}

impl StepOutput {
    /// Reads all values from the device in one transfer.
    ///
    /// # Errors
    /// [`TensorReadError`] if the device failed to compute them.
    pub fn read(&self) -> Result<StepMetrics, TensorReadError> {
        let values = self.values.clone().try_into_vec_as::<f32>()?.into_iter().map(f64::from).collect();
        Ok(StepMetrics { report: self.report, values, images: self.images })
    }
}

/// The metrics of a training step as numbers.
#[derive(Clone, Debug)]
pub struct StepMetrics {
    /// Their names.
    pub report: MetricNames,
    /// One value for each name.
    pub values: Vec<f64>,
    /// The images that the values are means of.
    pub images: usize,
}

impl StepMetrics {
    /// Each value with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.report.iter().map(|(name, _)| *name).zip(self.values.iter().copied())
    }

    /// The first value that is NaN or infinite, as text.
    pub fn not_finite(&self) -> Option<String> {
        self.named().find(|(_, value)| !value.is_finite()).map(|(name, value)| format!("{name} is {value}"))
    }
}
