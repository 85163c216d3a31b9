//! `explainer-train config`: check a configuration, print its schema, list and show the built-in settings.

use super::compare::CompareArgs;
use super::train::{TrainArgs, key_value};
use super::{BadUsage, Global, announce_preset, print};
use crate::config::presets::{self, PRESETS};
use crate::config::{CompareConfig, Config};
use clap::Subcommand;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// List the built-in settings: name, method, backbone, description
    ///
    /// They are the project's files in configs/, compiled into the program. Every command that takes a YAML file takes the
    /// name of one of them as well, with or without `.yaml`, in any folder. A file of that name takes precedence.
    #[command(after_help = "\
Examples:
  explainer-train config list
  explainer-train --config quickstart.yaml               train with built-in settings
  explainer-train config show ttame_vit > mine.yaml      start from built-in settings")]
    List,
    /// Print built-in settings as a YAML file to start from
    #[command(after_help = "\
Examples:
  explainer-train config show ttame_vit > mine.yaml
  explainer-train config schema > schema.json            descriptions and completion for an editor")]
    Show {
        /// Name of the settings, such as quickstart; `config list` lists them
        name: PathBuf,
    },
    /// Check a YAML file and print it with every key written out
    ///
    /// Checks types, ranges, unknown keys and the rules across keys. No image and no weights are opened.
    #[command(after_help = "\
Examples:
  explainer-train config check mine.yaml
  explainer-train config check ttame_vit.yaml optimizer.lr=5e-4")]
    Check {
        /// YAML file of a run or a comparison, or the name of built-in settings
        file: PathBuf,
        /// Keys to change in the file: `train.epochs=2`
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<String>,
    },
    /// Print the JSON Schema of the YAML file: every key with its meaning, default and range
    #[command(after_help = "\
Examples:
  explainer-train config schema > schema.json
  explainer-train config schema --compare > schema_compare.json")]
    Schema {
        /// Print the schema of a comparison instead of a run
        #[arg(long)]
        compare: bool,
    },
}

pub(super) fn run(command: &ConfigCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        ConfigCommand::List => print(&list()?),
        ConfigCommand::Show { name } => match presets::find(name) {
            Some(preset) => print(preset.text),
            None => Err(BadUsage(presets::unknown(name)).into()),
        },
        ConfigCommand::Check { file, overrides } => {
            // Errors of the file are reported when it is loaded.
            if presets::read(file).is_ok_and(|text| CompareConfig::is_comparison(&text)) {
                let (config, overrides) = (file.clone(), overrides.clone());
                let args = CompareArgs { config, overrides, output: None, seed: None };
                let yaml = args.resolved(global)?.to_yaml()?;
                announce_preset(file, global);
                return print(&format!("{yaml}# {}: OK\n", file.display()));
            }
            let args = TrainArgs { config: Some(file.clone()), overrides: overrides.clone(), ..TrainArgs::default() };
            let config = args.config(global)?;
            announce_preset(file, global);
            let notes: String = config.notes().iter().map(|note| format!("# note: {note}\n")).collect();
            print(&format!("{}{notes}# {}: OK\n", config.to_yaml()?, file.display()))
        }
        ConfigCommand::Schema { compare: false } => print(&format!("{:#}\n", Config::schema())),
        ConfigCommand::Schema { compare: true } => print(&format!("{:#}\n", CompareConfig::schema())),
    }
}

/// A line for each of the built-in settings. A comparison has neither a method nor, as a rule, a backbone of its own.
fn list() -> anyhow::Result<String> {
    let mut rows = vec![["NAME".to_owned(), "METHOD".to_owned(), "BACKBONE".to_owned(), "DESCRIPTION".to_owned()]];
    for preset in PRESETS {
        let (method, backbone) = match CompareConfig::is_comparison(preset.text) {
            true => ("(comparison)", "-".into()),
            false => {
                let run = Config::parse(preset.text, Path::new(preset.name), &[])?;
                (run.explainer.method().name(), run.backbone.name)
            }
        };
        rows.push([preset.name.to_owned(), method.to_owned(), backbone, preset.description().to_owned()]);
    }
    let [name, method, backbone] = [0, 1, 2].map(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0));
    let line = |row: &[String; 4]| format!("{:name$}  {:method$}  {:backbone$}  {}\n", row[0], row[1], row[2], row[3]);
    Ok(rows.iter().map(line).collect())
}
