//! Measuring one explainer, batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::train::Interrupter;
use explainer_zoo::backbone::{Backbone, check_failures};
use explainer_zoo::device::Compute;

use super::contender::Drawn;
use super::sample::sort;
use super::{Classifier, CompareError, Contender, Curve, Entry, Journal, Measured};
use crate::data::{Broken, ImageSet, Images, Loader, Objects, Plan, Subset, Tally};
use crate::report::progress::Meter;
use explainer_metrics::GroundTruth;
use explainer_metrics::{Attributions, ImageBatch, Metric};

/// What all explainers are measured with.
pub(super) struct Measuring<'a> {
    pub classifier: &'a Classifier,
    pub metrics: &'a [Box<dyn Metric>],
    pub images: &'a Images,
    pub objects: &'a Objects,
    /// The classifier with ever more of it random, where a metric needs it.
    pub randomised: &'a [Arc<dyn Backbone>],
    pub compute: &'a Compute,
    /// Images at a time.
    pub batch_size: NonZeroUsize,
    pub quiet: bool,
    pub interrupter: &'a Interrupter,
}

/// How far an explainer was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Whether the run was interrupted before the last image.
    pub stopped: bool,
    /// Images that were measured now and not before.
    pub fresh: usize,
}

impl Measuring<'_> {
    /// Measures an explainer on those of the `wanted` images that its journal does not have, but for those that are known to
    /// be broken, to which new ones are added.
    pub fn measure(
        &self,
        contender: &Contender,
        journal: &mut Journal,
        wanted: &BTreeSet<usize>,
        tally: &mut Tally,
    ) -> Result<Progress, CompareError> {
        let mut done = journal.done();
        done.extend(tally.files().map(|broken| broken.index));
        let mut left: Vec<usize> = wanted.difference(&done).copied().collect();
        sort(&mut left);
        let mut progress = Progress::default();
        if left.is_empty() {
            return Ok(progress);
        }
        let all = self.images.any();
        let part = Arc::new(Subset::of(all.clone(), left));
        // What is too much is judged by all images and not by those that are left.
        let plan = Plan { workers: self.compute.threads, max_broken: 1.0, ..Plan::validation(self.batch_size.get()) };
        let mut loader = Loader::new(part.clone(), plan, 0)?;
        let mut meter = Meter::named(&contender.name, wanted.len(), wanted.len() - part.len(), self.quiet);
        let mut seen = 0;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            record(&loader, &part, &mut seen, tally)?;
            let indices: Vec<usize> = batch.indices.iter().filter_map(|index| part.whole(*index)).collect();
            let preprocessing = &self.classifier.preprocessing;
            let truth = indices.iter().map(|index| self.images.truth(*index, self.objects, preprocessing));
            let truth = truth.collect::<Result<Vec<_>, _>>()?;
            let entry = self.entry(contender, batch.images(&self.compute.device), truth, &indices, all.as_ref())?;
            journal.add(&entry)?;
            progress.fresh += batch.len();
            meter.advance(batch.len(), loader.tally());
            if self.interrupter.should_stop() {
                progress.stopped = progress.fresh + seen < part.len();
                break;
            }
        }
        meter.finish(loader.tally());
        record(&loader, &part, &mut seen, tally)?;
        Ok(progress)
    }

    /// A batch's line of the journal.
    fn entry(
        &self,
        contender: &Contender,
        pixels: Tensor<4>,
        truth: Vec<GroundTruth>,
        indices: &[usize],
        set: &dyn ImageSet,
    ) -> Result<Entry, CompareError> {
        let Drawn { clean, maps, cost } = contender.draw(self.classifier, pixels)?;
        let (backbone, preprocessing) = (self.classifier.backbone.as_ref(), &self.classifier.preprocessing);
        let subject = ImageBatch::new(backbone, preprocessing, clean.images, clean.logits, clean.classes)?;
        let subject = subject.with_ground_truth(truth)?.with_batch_size(self.batch_size);
        let asked = contender.asked(self.classifier, self.randomised);
        let case = Attributions::new(&subject, maps)?;
        let case = match &asked {
            Some(asked) => case.with_explainer(asked.as_ref()),
            None => case,
        };
        let columns = self.metrics.iter().map(|metric| metric.measure(&case)).collect::<Result<Vec<_>, _>>()?;
        let curves: BTreeMap<String, Curve> = self
            .metrics
            .iter()
            .filter_map(|metric| {
                let curves = metric.curves(&case)?;
                let mut sum = Curve::default();
                let sound = curves.iter().zip(case.finite()).filter(|(_, sound)| **sound);
                for (curve, _) in sound.filter(|(curve, _)| curve.iter().all(|score| score.is_finite())) {
                    sum.add(&Curve { sum: curve.clone(), images: 1 });
                }
                Some((metric.spec().name, sum))
            })
            .collect();
        check_failures([&self.classifier.backbone])?;
        let row = |(place, (index, class)): (usize, (&usize, &usize))| Measured {
            index: *index,
            image: set.id(*index),
            class: *class,
            values: columns.iter().map(|column| column.get(place).copied().flatten()).collect(),
        };
        let rows = indices.iter().zip(subject.classes()).enumerate().map(row).collect();
        Ok(Entry { rows, cost, curves })
    }
}

/// Counts the images that the loader has found broken since the last time, by their numbers in the whole set.
fn record(loader: &Loader, part: &Subset, seen: &mut usize, tally: &mut Tally) -> Result<(), CompareError> {
    for broken in loader.tally().files().skip(*seen) {
        let index = part.whole(broken.index).unwrap_or(broken.index);
        tally.record(&Broken { index, ..broken.clone() })?;
        *seen += 1;
    }
    Ok(())
}
