//! `explainer-train config`: check a configuration, print its schema.

use super::compare::CompareArgs;
use super::train::{TrainArgs, key_value};
use super::{Global, print};
use crate::config::{CompareConfig, Config};
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a YAML file and print it with every key written out
    #[command(after_help = "\
Example:
  explainer-train config check configs/ttame_vit.yaml optimizer.lr=5e-4")]
    Check {
        /// YAML file of a run, or of a comparison
        file: PathBuf,
        /// Keys to change in the file
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<String>,
    },
    /// Print the JSON Schema of the YAML file: every key with its meaning, default and range
    #[command(after_help = "\
Example:
  explainer-train config schema > configs/schema.json
  explainer-train config schema --compare > configs/schema_compare.json")]
    Schema {
        /// That of a comparison instead of a run's
        #[arg(long)]
        compare: bool,
    },
}

pub(super) fn run(command: &ConfigCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { file, overrides } => {
            // Which kind it is; what is wrong with it is said below.
            if std::fs::read_to_string(file).is_ok_and(|text| CompareConfig::is_meant(&text)) {
                let (config, overrides) = (file.clone(), overrides.clone());
                let args = CompareArgs { config, overrides, output: None, seed: None };
                return print(&format!("{}# {}: OK\n", args.resolved(global)?.to_yaml()?, file.display()));
            }
            let args = TrainArgs { config: Some(file.clone()), overrides: overrides.clone(), ..TrainArgs::default() };
            let config = args.config(global)?;
            let notes: String = config.notes().iter().map(|note| format!("# note: {note}\n")).collect();
            print(&format!("{}{notes}# {}: OK\n", config.to_yaml()?, file.display()))
        }
        ConfigCommand::Schema { compare: false } => print(&format!("{:#}\n", Config::schema())),
        ConfigCommand::Schema { compare: true } => print(&format!("{:#}\n", CompareConfig::schema())),
    }
}
