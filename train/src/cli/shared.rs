//! What the commands that work with weights share: the device, the loading of an explainer.

use super::{BadUsage, Global};
use crate::explain::{Loaded, Moved};
use crate::report::progress::{warn_of_unverified, with_download_bar};
use clap::Args;
use explainer_zoo::device::Compute;
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

/// The explainer before classifiers of which ever more is random.
pub(super) fn randomised(loaded: &Loaded, places: &WeightArgs, global: &Global) -> anyhow::Result<Vec<Loaded>> {
    Ok(with_download_bar(global.quiet, |progress| loaded.randomised(places.moved(), progress))?)
}
