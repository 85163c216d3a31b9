//! Measuring one explainer, with a journal.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use burn::train::Interrupter;

use super::error::CompareError;
use super::explainers::ComparedExplainer;
use super::journal::{Journal, JournalEntry, JournalRow};
use super::sample::sort;
use crate::data::{BrokenImage, BrokenImages};
use crate::evaluation::{BatchResult, Evaluator};
use crate::report::progress::ImageProgress;

/// How far an explainer was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Whether the run was interrupted before the last image.
    pub stopped: bool,
    /// Images that were measured in this run and not in an earlier one.
    pub fresh: usize,
}

/// Measures an explainer on those of the `wanted` images that its journal does not have, except those that are known to be
/// unreadable; newly found unreadable images are added to `tally`.
pub(super) fn measure(
    evaluator: &Evaluator<'_>,
    explainer: &ComparedExplainer,
    journal: &mut Journal,
    wanted: &BTreeSet<usize>,
    tally: &mut BrokenImages,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Progress, CompareError> {
    let mut done = journal.done();
    done.extend(tally.files().map(|broken| broken.index));
    let mut left: Vec<usize> = wanted.difference(&done).copied().collect();
    sort(&mut left);
    let mut progress = Progress::default();
    if left.is_empty() {
        return Ok(progress);
    }
    let set = evaluator.images.any();
    let mut meter = ImageProgress::named(&explainer.name, wanted.len(), wanted.len() - left.len(), quiet);
    let mut seen = 0;
    // Too many unreadable images are judged by the whole set and not by the images that are left: `max_broken` is 1.
    let found = evaluator.run(&[&explainer.candidate], left.clone(), 1.0, |results, found| {
        record(found, &left, &mut seen, tally)?;
        for result in results {
            let count = result.images.len();
            journal.add(&entry(result, |index| set.id(index)))?;
            progress.fresh += count;
            meter.advance(count, found);
        }
        if interrupter.should_stop() {
            progress.stopped = progress.fresh + seen < left.len();
            return Ok::<_, CompareError>(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    });
    let found = found.map_err(|error| error.of(&explainer.name))?;
    meter.finish(&found);
    record(&found, &left, &mut seen, tally)?;
    Ok(progress)
}

/// The line of the journal for a batch.
fn entry(result: BatchResult, id: impl Fn(usize) -> String) -> JournalEntry {
    let BatchResult { images, curves, cost } = result;
    let row = |image: crate::evaluation::ImageResult| JournalRow {
        index: image.index,
        image: id(image.index),
        class: image.class,
        values: image.values,
    };
    JournalEntry { rows: images.into_iter().map(row).collect(), cost, curves }
}

/// Adds the unreadable images after the first `seen` to `tally`, by their indices in the whole set.
fn record(
    found: &BrokenImages,
    left: &[usize],
    seen: &mut usize,
    tally: &mut BrokenImages,
) -> Result<(), CompareError> {
    for broken in found.files().skip(*seen) {
        let index = left.get(broken.index).copied().unwrap_or(broken.index);
        tally.record(&BrokenImage { index, ..broken.clone() })?;
        *seen += 1;
    }
    Ok(())
}
