//! Metrics and gradient norms of steps that have been made and not been read from the device.
//!
//! A read makes the host wait for the device, and the device then waits for the host. On an accelerator the values of many
//! steps are therefore read in one transfer. The head may have learned from a gradient that is not finite by then, but the
//! run ends, with the images of that step named, before such a head is validated or saved.

use burn::tensor::Tensor;
use explainer_zoo::training::{StepMetrics, StepOutput};

use super::FitError;
use super::clip::Norms;
use crate::data::ImageSet;
use crate::distributed::ProcessGroup;

/// A step whose values have not been read.
#[derive(Debug)]
pub(super) struct PendingStep {
    /// Its number in the run, from 0.
    pub step: usize,
    /// The images of this rank's share.
    pub indices: Vec<usize>,
    /// The metrics of this rank's share.
    pub output: StepOutput,
    /// The metrics of the whole batch, where they have been gathered already.
    pub gathered: Option<StepMetrics>,
    /// The norms of its gradients.
    pub norms: Option<Norms>,
}

/// The steps since the last read.
#[derive(Debug, Default)]
pub(super) struct PendingMetrics {
    steps: Vec<PendingStep>,
    latest: Option<StepMetrics>,
}

impl PendingMetrics {
    /// Adds a step.
    pub fn push(&mut self, step: PendingStep) {
        self.steps.push(step);
    }

    /// The number of steps that have not been read.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The metrics that were read last.
    pub fn latest(&self) -> Option<&StepMetrics> {
        self.latest.as_ref()
    }

    /// Reads all steps in one transfer. All ranks call it.
    ///
    /// # Errors
    /// [`FitError::NotFinite`] on all ranks at the first step with a value that is NaN or infinite on any rank;
    /// [`FitError::Device`] if the device failed.
    pub fn flush(&mut self, group: &ProcessGroup, images: &dyn ImageSet) -> Result<(), FitError> {
        let steps = std::mem::take(&mut self.steps);
        if steps.is_empty() {
            return Ok(());
        }
        let parts = steps.iter().flat_map(|one| {
            let metrics = one.gathered.is_none().then(|| one.output.values.clone());
            [metrics, one.norms.as_ref().map(Norms::squares)].into_iter().flatten()
        });
        let read = match parts.collect::<Vec<Tensor<1>>>() {
            parts if parts.is_empty() => Ok(Vec::new()),
            parts => Tensor::cat(parts, 0).try_into_data().map(|data| data.iter::<f64>().collect()),
        };
        let values = group.all_ok(read.map_err(|error| FitError::Device(error.to_string())))?;
        let mut values = values.as_slice();
        let mut next = |count: usize| {
            let (taken, rest) = values.split_at(count.min(values.len()));
            values = rest;
            taken.to_vec()
        };
        for PendingStep { step, indices, output: StepOutput { report, images: count, .. }, gathered, norms } in steps {
            let metrics = gathered.unwrap_or_else(|| StepMetrics { report, values: next(report.len()), images: count });
            let squares = next(norms.as_ref().map_or(0, |norms| norms.squares().dims()[0]));
            let norm = norms.map_or(Ok(0.0), |norms| norms.global_norm(&squares));
            let found = metrics.not_finite().or(norm.err().map(|error| error.to_string()));
            if let Some(found) = group.all_gather(&found)?.into_iter().flatten().next() {
                return Err(not_finite(step, &indices, found, group, images));
            }
            self.latest = Some(metrics);
        }
        Ok(())
    }
}

/// The metrics of a batch of `total` images: the mean over the shares of all ranks. All ranks call it; `own` has the failure
/// of a rank that has no metrics.
///
/// # Errors
/// The failure of any rank.
pub(super) fn gather_metrics(
    own: Result<(), FitError>,
    output: &StepOutput,
    total: usize,
    group: &ProcessGroup,
) -> Result<StepMetrics, FitError> {
    let read = || output.read().map_err(|error| FitError::Device(error.to_string()));
    // As bits: JSON has no NaN.
    let bits = |own: StepMetrics| (own.images, own.values.into_iter().map(f64::to_bits).collect::<Vec<_>>());
    let mut values = vec![0.0; output.report.len()];
    for (images, own) in group.try_all_gather(own.and_then(|()| read()).map(bits))? {
        let weight = images as f64 / total.max(1) as f64;
        values.iter_mut().zip(own).for_each(|(sum, bits)| *sum += weight * f64::from_bits(bits));
    }
    Ok(StepMetrics { report: output.report, values, images: total })
}

/// The same failure on all ranks, with the images of the whole batch; `indices` are this rank's share. All ranks call it.
pub(super) fn not_finite(
    step: usize,
    indices: &[usize],
    what: String,
    group: &ProcessGroup,
    images: &dyn ImageSet,
) -> FitError {
    let indices = group.all_gather(&indices.to_vec()).map_or_else(|_| indices.to_vec(), |all| all.concat());
    let images = indices.iter().map(|index| images.name(*index)).collect();
    let failure = FitError::NotFinite { step: step + 1, what, images };
    group.all_ok::<(), _>(Err(failure)).err().unwrap_or_else(|| FitError::Stopped("no rank has failed".into()))
}
