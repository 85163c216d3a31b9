//! `explainer-train --config FILE`: train.

use super::Global;
use crate::config::{Config, ConfigError};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

/// Options of a training run.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Training")]
pub struct TrainArgs {
    /// YAML file of the run, such as configs/quickstart.yaml
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Keys to change in the file: `train.epochs=2`, `backbone.taps=[layer4]`, `optimizer={name: adamw, lr: 1e-4}`
    #[arg(value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Training")]
    pub overrides: Vec<String>,
    /// Folder for checkpoints, metrics and the artifact [default: checkpoints/ and the name of FILE]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Continue a run: from a checkpoint, or `auto` for the newest valid one in the output folder, if there is any
    #[arg(long, value_name = "auto|PATH")]
    pub resume: Option<Resume>,
}

/// Where a run continues from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The newest valid checkpoint of the output folder; a fresh start if there is none.
    Auto,
    /// This checkpoint.
    Path(PathBuf),
}

impl FromStr for Resume {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "auto" { Self::Auto } else { Self::Path(text.into()) })
    }
}

/// Accepts `key=value`, so that a misspelt sub-command is not taken for a key.
pub(super) fn key_value(text: &str) -> Result<String, String> {
    let message = "neither a sub-command (see --help) nor KEY=VALUE, such as train.epochs=2";
    if text.contains('=') { Ok(text.to_owned()) } else { Err(message.to_owned()) }
}

impl TrainArgs {
    /// The resolved configuration: the file, then KEY=VALUE, then options, which win.
    pub fn config(&self, global: &Global) -> Result<Config, ConfigError> {
        let path = self.config.clone().unwrap_or_default();
        let mut config = Config::load(&path, &self.overrides)?;
        config.output = self.output.clone().or(config.output);
        config.train.seed = self.seed.unwrap_or(config.train.seed);
        config.device = global.device.clone().unwrap_or(config.device);
        config.threads = global.threads.map(usize::from).or(config.threads);
        Ok(config)
    }
}

/// Trains.
pub(super) fn run(args: &TrainArgs, global: &Global) -> anyhow::Result<()> {
    let _config = args.config(global)?;
    anyhow::bail!("training is not built yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_the_file() {
        let args = TrainArgs {
            config: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml").into()),
            overrides: vec!["train.seed=1".into(), "threads=1".into()],
            output: Some("elsewhere".into()),
            seed: Some(2),
            resume: None,
        };
        let global = Global { device: Some("cuda:1".into()), threads: 3.try_into().ok(), quiet: false };
        let config = args.config(&global).unwrap();
        assert_eq!((config.train.seed, config.threads, config.device.as_str()), (2, Some(3), "cuda:1"));
        assert_eq!(config.output, Some("elsewhere".into()));
        let config = TrainArgs { output: None, seed: None, ..args }.config(&Global::default()).unwrap();
        assert_eq!((config.train.seed, config.threads, config.device.as_str()), (1, Some(1), "flex"));
        assert_eq!(config.output, Some("checkpoints/quickstart".into()));
    }
}
