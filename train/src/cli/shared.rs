//! What several commands share: the device, finding and opening an explainer.

use super::{BadUsage, Global};
use crate::explain::{self, BeeOptions, OpenError, OpenOptions, OpenedExplainer, WeightOverrides, metric_names};
use crate::report::progress::{warn_of_unverified, with_download_bar};
use clap::Args;
use explainer_zoo::artifact::{self, CONFIG};
use explainer_zoo::backbone::torchscript;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{BaselineDistribution, Mode, RewardMetric};
use explainer_zoo::hub::{self, Reference};
use explainer_zoo::weights::source::SourceSettings;
use explainer_zoo::zoo::{self, OpenedEntry};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Prefix of the name of a published explainer.
const ZOO: &str = "zoo:";

/// The device of `--device`, by default the CPU.
pub(super) fn compute(global: &Global) -> Result<Compute, BadUsage> {
    let name = global.device.as_deref().unwrap_or("flex");
    Compute::new(name, global.threads.map(usize::from)).map_err(|error| BadUsage(error.to_string()))
}

/// The files of an explainer, on this machine.
#[derive(Debug)]
pub(super) struct Found {
    /// Folder of its artifact; it exists as long as this value does.
    pub folder: PathBuf,
    /// Whether it was downloaded.
    fetched: bool,
    _opened: Option<OpenedEntry>,
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
    if !Reference::is_hub_reference(text) {
        return Ok(Found { folder: artifact_of(place), fetched: false, _opened: None });
    }
    let reference: Reference = text.parse().map_err(|error: hub::ReferenceError| BadUsage(error.to_string()))?;
    let settings = SourceSettings::from_env();
    let fetched = with_download_bar(global.quiet, |progress| hub::fetch(&reference, &settings, progress))?;
    Ok(Found { folder: fetched.folder, fetched: true, _opened: None })
}

/// The artifact in the output of a run; anything else as it is, for whoever opens it to say what is wrong.
fn artifact_of(place: &Path) -> PathBuf {
    artifact::locate(place).unwrap_or_else(|_| place.to_path_buf())
}

impl Found {
    /// Refuses a downloaded explainer whose classifier is a TorchScript file that the user has not chosen: LibTorch would
    /// run it as a program. `given` lists the options for weights: the part of `config.json`, the option, whether it was given.
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

/// Where the weights of an explainer's classifiers are.
#[derive(Clone, Debug, Default, Args)]
pub struct WeightArgs {
    /// Weights of the classifier, if they are not at the place that the artifact names
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
    /// Weights of the second classifier, likewise: P-TAME's auxiliary, BEE's context
    #[arg(long, value_name = "SOURCE", visible_alias = "context-weights")]
    pub auxiliary_weights: Option<String>,
}

impl WeightArgs {
    fn overrides(&self) -> WeightOverrides {
        WeightOverrides { backbone: self.weights.clone(), second: self.auxiliary_weights.clone() }
    }

    /// The options that were given, for [`Found::trusted`].
    pub(super) fn given(&self) -> [(&'static str, &'static str, bool); 3] {
        let second = self.auxiliary_weights.is_some();
        [
            ("backbone", "--weights", self.weights.is_some()),
            ("auxiliary", "--auxiliary-weights", second),
            ("context", "--context-weights", second),
        ]
    }
}

/// How a BEE explainer explains.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of BEE")]
pub struct BeeArgs {
    /// Metric that the map is drawn for: the best of several maps for it
    #[arg(long, value_name = "NAME")]
    pub metric: Option<RewardMetric>,
    /// Number of maps drawn for an explanation [default: as the artifact says]
    #[arg(long, value_name = "T")]
    pub draws: Option<NonZeroUsize>,
    /// Learn from each map before the next is drawn, for this image only
    #[arg(long)]
    pub fine_tune: bool,
    /// Draw all baselines from one family instead of the learned mixture: normal, uniform, blur, constant or train-data
    #[arg(long, value_name = "NAME", conflicts_with = "fine_tune")]
    pub family: Option<BaselineDistribution>,
}

impl BeeArgs {
    fn options(&self) -> BeeOptions {
        let mode = match self.family {
            Some(family) => Mode::Fixed(family),
            None if self.fine_tune => Mode::FineTuned,
            None => Mode::Pretrained,
        };
        BeeOptions { metric: self.metric, draws: self.draws.map(usize::from), mode }
    }
}

/// Opens an explainer with its classifiers, and warns of classifiers that cannot be verified.
pub(super) fn open(
    found: &Found,
    places: &WeightArgs,
    bee: &BeeArgs,
    global: &Global,
) -> anyhow::Result<OpenedExplainer> {
    let options = OpenOptions { weights: places.overrides(), compute: compute(global)?, bee: bee.options() };
    let opened = with_download_bar(global.quiet, |progress| explain::open(&found.folder, &options, progress));
    let opened = opened.map_err(|error| match error {
        OpenError::Explain(error) => anyhow::Error::from(error),
        OpenError::NotBee { option } => {
            let folder = found.folder.display();
            BadUsage(format!("--{option}: {folder} is no BEE explainer: it has one map per class; leave it out")).into()
        }
        OpenError::MetricNeeded { known } => {
            let known = metric_names(&known);
            BadUsage(format!("--metric is needed, this explainer learned for {known}")).into()
        }
        OpenError::NoMixture(error) => BadUsage(format!("--metric: {error}")).into(),
    })?;
    warn_of_unverified(&opened.matched);
    Ok(opened)
}
