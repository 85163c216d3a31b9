//! What the commands that work with weights share: the device, the loading of an explainer, warnings and a meter.

use super::{BadUsage, Global, eprint};
use crate::data::Tally;
use crate::explain::{Loaded, Moved};
use crate::report::progress::{bar, with_download_bar};
use clap::Args;
use explainer_zoo::artifact::BackboneMatch;
use explainer_zoo::device::Compute;
use indicatif::ProgressBar;
use std::path::Path;

/// The device that was asked for, by default the CPU.
pub(super) fn compute(global: &Global) -> Result<Compute, BadUsage> {
    let name = global.device.as_deref().unwrap_or("flex");
    Compute::new(name, global.threads.map(usize::from)).map_err(|error| BadUsage(error.to_string()))
}

/// Where the weights are that a trained explainer needs.
#[derive(Debug, Default, Args)]
pub struct WeightArgs {
    /// The classifier's weights, where they are no longer at the place that the artifact names
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
    /// The auxiliary classifier's weights, likewise (P-TAME)
    #[arg(long, value_name = "SOURCE")]
    pub auxiliary_weights: Option<String>,
}

impl WeightArgs {
    fn moved(&self) -> Moved<'_> {
        Moved { backbone: self.weights.as_deref(), auxiliary: self.auxiliary_weights.as_deref() }
    }
}

/// Opens a trained explainer with its classifiers, and warns if nobody can tell whether they belong together.
pub(super) fn open(folder: &Path, places: &WeightArgs, global: &Global) -> anyhow::Result<Loaded> {
    let compute = compute(global)?;
    let moved = places.moved();
    let loaded = with_download_bar(global.quiet, |progress| Loaded::open(folder, moved, &compute, progress))?;
    warn_of_unverified(&loaded.matched);
    Ok(loaded)
}

/// Warns of classifiers of which nobody can tell whether they are those of the training.
pub(super) fn warn_of_unverified(matched: &[BackboneMatch]) {
    for matched in matched {
        if let BackboneMatch::Unverified(warning) = matched {
            warn(warning);
        }
    }
}

/// The explainer before classifiers of which ever more is random.
pub(super) fn randomised(loaded: &Loaded, places: &WeightArgs, global: &Global) -> anyhow::Result<Vec<Loaded>> {
    Ok(with_download_bar(global.quiet, |progress| loaded.randomised(places.moved(), progress))?)
}

/// A line on standard error.
pub(super) fn warn(text: &str) {
    eprint(&format!("warning: {text}\n"));
}

/// How far a pass over a set of images is, and which of them were broken.
#[derive(Debug)]
pub(super) struct Meter {
    bar: ProgressBar,
    warned: usize,
}

impl Meter {
    /// The start of one pass, in the set's own order, over this many images.
    pub(super) fn new(images: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{bar:30} {pos}/{len} images, {per_sec}, {eta} left");
        Self { bar, warned: 0 }
    }

    /// Counts `images` that are done, and warns of those that were found broken since the last call.
    pub(super) fn advance(&mut self, images: usize, tally: &Tally) {
        // The tally is in the order of the set, as the pass is: new ones are at the end.
        let mut broken = 0;
        for image in tally.files().skip(self.warned) {
            self.bar.suspend(|| warn(&image.reason));
            broken += 1;
        }
        self.warned += broken;
        self.bar.inc((images + broken) as u64);
    }

    /// Ends the pass: warns of what is left to warn of and takes the bar away.
    pub(super) fn finish(&mut self, tally: &Tally) {
        self.advance(0, tally);
        self.bar.finish_and_clear();
    }
}
