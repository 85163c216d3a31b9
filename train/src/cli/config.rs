//! `explainer-train config`: check a configuration, print its schema.

use super::train::{TrainArgs, key_value};
use super::{Global, print};
use crate::config::Config;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a YAML file and print it with every key written out
    #[command(after_help = "\
Example:
  explainer-train config check configs/ttame_vit.yaml optimizer.lr=5e-4")]
    Check {
        /// YAML file of a run
        file: PathBuf,
        /// Keys to change in the file
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<String>,
    },
    /// Print the JSON Schema of the YAML file: every key with its meaning, default and range
    #[command(after_help = "\
Example:
  explainer-train config schema > configs/schema.json")]
    Schema,
}

pub(super) fn run(command: &ConfigCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { file, overrides } => {
            let args = TrainArgs { config: Some(file.clone()), overrides: overrides.clone(), ..TrainArgs::default() };
            let config = args.config(global)?;
            let notes: String = config.notes().iter().map(|note| format!("# note: {note}\n")).collect();
            print(&format!("{}{notes}# {}: OK\n", config.to_yaml()?, file.display()))
        }
        ConfigCommand::Schema => print(&format!("{:#}\n", Config::schema())),
    }
}
