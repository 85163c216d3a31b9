//! What the commands that work with weights share: the device, the loading of an explainer.

use super::{BadUsage, Global};
use crate::explain::{LoadedExplainer, Moved};
use crate::report::progress::{warn_of_unverified, with_download_bar};
use clap::Args;
use explainer_zoo::artifact::CONFIG;
use explainer_zoo::backbone::torchscript;
use explainer_zoo::device::Compute;
use explainer_zoo::hub::{self, Reference};
use explainer_zoo::weights::source::SourceSettings;
use explainer_zoo::zoo::{self, Opened};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What an explainer that comes with the program is named by.
const ZOO: &str = "zoo:";

/// The device that was asked for, by default the CPU.
pub(super) fn compute(global: &Global) -> Result<Compute, BadUsage> {
    let name = global.device.as_deref().unwrap_or("flex");
    Compute::new(name, global.threads.map(usize::from)).map_err(|error| BadUsage(error.to_string()))
}

/// An explainer that was asked for, on this machine.
#[derive(Debug)]
pub(super) struct Found {
    /// Folder of its artifact; there as long as this value is.
    pub folder: PathBuf,
    /// Whether somebody else wrote it.
    fetched: bool,
    _opened: Option<Opened>,
}

/// Finds the explainer that a command line names: a folder, `hf://owner/name[@revision]` or `zoo:NAME`.
pub(super) fn find(place: &Path, global: &Global) -> anyhow::Result<Found> {
    let text = place.to_str().unwrap_or_default();
    if let Some(name) = text.strip_prefix(ZOO) {
        let entry = zoo::find(name).map_err(|error| BadUsage(error.to_string()))?;
        let settings = SourceSettings::from_env();
        let opened = with_download_bar(global.quiet, |progress| entry.open(&settings, progress))?;
        return Ok(Found { folder: opened.folder().to_path_buf(), fetched: false, _opened: Some(opened) });
    }
    if !Reference::is_meant(text) {
        return Ok(Found { folder: place.to_path_buf(), fetched: false, _opened: None });
    }
    let reference: Reference = text.parse().map_err(|error: hub::ReferenceError| BadUsage(error.to_string()))?;
    let settings = SourceSettings::from_env();
    let fetched = with_download_bar(global.quiet, |progress| hub::fetch(&reference, &settings, progress))?;
    Ok(Found { folder: fetched.folder, fetched: true, _opened: None })
}

impl Found {
    /// Refuses an explainer from the Hub whose classifier is a TorchScript that nobody here has chosen: it is a program,
    /// and LibTorch would run it. `given` are the options that say where weights are, by the part of `config.json`.
    pub fn trusted(&self, given: &[(&str, &str, bool)]) -> anyhow::Result<()> {
        #[derive(Default, Deserialize)]
        struct Record {
            name: String,
        }
        if !self.fetched {
            return Ok(());
        }
        let config = std::fs::read(self.folder.join(CONFIG))?;
        let config: serde_json::Value = serde_json::from_slice(&config)?;
        for (part, option, given) in given {
            let record: Record = serde_json::from_value(config[part].clone()).unwrap_or_default();
            if record.name == torchscript::NAME && !given {
                let message = "is a TorchScript, a program that would run on this machine; give its file with";
                return Err(BadUsage(format!("the {part} of this explainer {message} {option} if you trust it")).into());
            }
        }
        Ok(())
    }
}

/// Where the weights are that a trained explainer needs.
#[derive(Clone, Debug, Default, Args)]
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

    /// What was given, for [`Found::trusted`].
    pub(super) fn given(&self) -> [(&'static str, &'static str, bool); 2] {
        [
            ("backbone", "--weights", self.weights.is_some()),
            ("auxiliary", "--auxiliary-weights", self.auxiliary_weights.is_some()),
        ]
    }
}

/// Opens a trained explainer with its classifiers, and warns if nobody can tell whether they belong together.
pub(super) fn open(folder: &Path, places: &WeightArgs, global: &Global) -> anyhow::Result<LoadedExplainer> {
    let compute = compute(global)?;
    let moved = places.moved();
    let loaded = with_download_bar(global.quiet, |progress| LoadedExplainer::open(folder, moved, &compute, progress))?;
    warn_of_unverified(&loaded.matched);
    Ok(loaded)
}

/// The explainer before classifiers of which ever more is random.
pub(super) fn randomised(
    loaded: &LoadedExplainer,
    places: &WeightArgs,
    global: &Global,
) -> anyhow::Result<Vec<LoadedExplainer>> {
    Ok(with_download_bar(global.quiet, |progress| loaded.randomised(places.moved(), progress))?)
}
