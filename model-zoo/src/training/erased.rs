//! Tasks of one family's heads as tasks of any head.

use std::fmt::Debug;
use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::metrics::{MetricNames, StepOutput};
use super::task::{PhaseSpec, StepBatch, StepContext, TrainingTask};
use crate::feature_extractor::Features;

impl<H: Debug + 'static> PhaseSpec<H> {
    /// The same phase for `A`, an enum of heads of which `H` is one.
    pub fn erase<A>(self) -> PhaseSpec<A>
    where
        for<'a> &'a H: TryFrom<&'a A>,
    {
        let Self { name, task, batch_size, length, optimizer, schedule } = self;
        PhaseSpec { name, task: Arc::new(Erased(task)), batch_size, length, optimizer, schedule }
    }
}

/// A task of heads `H`, for an enum of heads.
#[derive(Debug)]
struct Erased<H>(Arc<dyn TrainingTask<H>>);

impl<A, H: Debug> TrainingTask<A> for Erased<H>
where
    for<'a> &'a H: TryFrom<&'a A>,
{
    fn report(&self) -> MetricNames {
        self.0.report()
    }

    fn validates(&self) -> bool {
        self.0.validates()
    }

    fn step(
        &self,
        head: &A,
        features: Features,
        batch: &StepBatch<'_>,
        context: &StepContext<'_>,
    ) -> (GradientsParams, StepOutput) {
        match <&H>::try_from(head) {
            Ok(head) => self.0.step(head, features, batch, context),
            // Never: task and head come from the same section. NaN ends the run.
            Err(_) => {
                let report = self.0.report();
                let values = Tensor::full([report.len()], f32::NAN, &features.images.device());
                (GradientsParams::new(), StepOutput { report, values, images: batch.indices.len() })
            }
        }
    }
}
