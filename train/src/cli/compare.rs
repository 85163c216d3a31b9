//! `explainer-train compare`: several explainers of one classifier, and a report.

use super::train::key_value;
use super::{BadUsage, Global, announce_preset, print, signals};
use crate::compare::{self, CompareError, Outcome};
use crate::config::{CompareConfig, ConfigError};
use clap::Args;
use std::path::PathBuf;

/// Compare explainers of one classifier: a report with intervals, passes, curves and a gallery
///
/// Measures every explainer of the YAML file with every metric on the same images, and writes report.html (one
/// self-contained page), report.md and report.json to the output folder. The same command continues a comparison that was
/// stopped: no image is measured twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train compare --config compare_quickstart.yaml
  explainer-train compare --config compare_quickstart.yaml limit=50 'metrics=[ad@50, ic@50]'")]
pub struct CompareArgs {
    /// YAML file of the comparison, such as configs/compare_quickstart.yaml
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Keys to change in the file: `limit=50`, `metrics=[ad@50, insertion]`
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<String>,
    /// Folder for the report and the measured values [default: checkpoints/ and the name of FILE]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Seed of the methods that draw random numbers
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl CompareArgs {
    /// The resolved configuration: the file, then KEY=VALUE, then options, which win.
    pub(super) fn resolved(&self, global: &Global) -> Result<CompareConfig, ConfigError> {
        let mut config = CompareConfig::load(&self.config, &self.overrides)?;
        config.output = self.output.clone().or(config.output);
        config.seed = self.seed.unwrap_or(config.seed);
        config.device = global.device.clone().unwrap_or(config.device);
        config.threads = global.threads.map(usize::from).or(config.threads);
        Ok(config)
    }

    /// The command that reproduces the report.
    fn command(&self) -> String {
        let mut words = vec!["explainer-train compare --config".into(), quoted(&self.config.display().to_string())];
        words.extend(self.overrides.iter().map(|text| quoted(text)));
        if let Some(output) = &self.output {
            words.extend(["--output".into(), quoted(&output.display().to_string())]);
        }
        if let Some(seed) = self.seed {
            words.extend(["--seed".into(), seed.to_string()]);
        }
        words.join(" ")
    }
}

/// A word quoted for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Compares.
pub(super) fn run(args: &CompareArgs, global: &Global) -> anyhow::Result<()> {
    let config = args.resolved(global)?;
    announce_preset(&args.config, global);
    let interrupter = signals::interrupter()?;
    let outcome = compare::run(&config, &args.command(), global.quiet, &interrupter).map_err(|error| match error {
        error @ (CompareError::Missing { .. } | CompareError::Keys { .. }) => BadUsage(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    match outcome {
        Outcome::Stopped { at } => print(&format!("stopped at {at}; the same command goes on from there\n")),
        Outcome::Finished { .. } if global.quiet => Ok(()),
        Outcome::Finished { report, fresh } => {
            let page = config.output_dir().join("report.html");
            print(&format!("{}\n{fresh} maps measured now; the report is {}\n", report.text(), page.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_that_a_shell_takes() {
        let args = CompareArgs {
            config: "my configs/a.yaml".into(),
            overrides: vec!["limit=3".into(), "metrics=[ad@50, it's]".into()],
            output: Some("out".into()),
            seed: Some(4),
        };
        let expected = r"explainer-train compare --config 'my configs/a.yaml' limit=3 'metrics=[ad@50, it'\''s]' --output out --seed 4";
        assert_eq!(args.command(), expected);
    }
}
