//! Figures of steps, which stay on the device until they are needed.
//!
//! A read makes the host wait until the device has done all that it was told to, and the device then waits for the host. On
//! an accelerator the figures of many steps are read together for that reason: the head may have learned from a gradient
//! that was not finite by then, but a run stops with that step's images named before such a head is validated or saved.

use burn::tensor::Tensor;

use super::Run;
use crate::fit::FitError;
use crate::fit::clip::Norms;
use crate::fit::progress::Figures;
use crate::fit::trainee::StepOutput;

/// A step that has been made and not yet been looked at.
#[derive(Debug)]
pub(super) struct Unread {
    /// Its number, from 0.
    pub step: usize,
    /// The images of this rank's share.
    pub indices: Vec<usize>,
    /// The figures of the share; where they are known already, those of the whole batch.
    pub output: StepOutput,
    /// Its gradients, measured.
    pub norms: Option<Norms>,
}

impl Run<'_> {
    /// Reads the figures of all steps since the last time, in one read, and stops the run at the first that is not finite.
    pub(super) fn settle(&mut self) -> Result<(), FitError> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(());
        }
        let parts = unread.iter().flat_map(|one| {
            let figures = one.output.known.is_none().then(|| one.output.values.clone());
            [figures, one.norms.as_ref().map(Norms::squares)].into_iter().flatten()
        });
        let read = match parts.collect::<Vec<Tensor<1>>>() {
            parts if parts.is_empty() => Ok(Vec::new()),
            parts => Tensor::cat(parts, 0).try_into_data().map(|data| data.iter::<f64>().collect()),
        };
        let values = self.routine.group.all_ok(read.map_err(|e| FitError::Device(e.to_string())))?;
        let mut values = values.as_slice();
        let mut next = |count: usize| {
            let (taken, rest) = values.split_at(count.min(values.len()));
            values = rest;
            taken.to_vec()
        };
        for Unread { step, indices, output, norms } in unread {
            let report = output.report;
            let figures =
                output.known.unwrap_or_else(|| Figures { report, values: next(report.len()), images: output.images });
            let squares = norms.as_ref().map_or(0, |norms| norms.squares().dims()[0]);
            let squares = next(squares);
            let norm = norms.map_or(Ok(0.0), |norms| norms.whole(&squares));
            let bad = bad_figure(&figures).or(norm.err().map(|error| error.to_string()));
            // What one rank has found wrong all of them report.
            let bad = self.routine.group.all_gather(&bad)?.into_iter().flatten().next();
            if let Some(bad) = bad {
                return Err(self.not_finite(step, &indices, bad));
            }
            self.figures = Some(figures);
        }
        Ok(())
    }
}

/// The first figure that is NaN or infinite.
fn bad_figure(figures: &Figures) -> Option<String> {
    figures.named().find(|(_, value)| !value.is_finite()).map(|(name, value)| format!("{name} is {value}"))
}
