//! `explainer-train --config FILE`: trains.

use super::{Global, announce_preset, bee, eprint, print, ranks, signals};
use crate::compare::run_summary;
use crate::config::{Config, ConfigError};
use crate::data::BrokenImage;
use crate::distributed::{self, ProcessGroup};
use crate::fit::checkpoint::State;
use crate::fit::{self, FitError, ResumeFrom};
use crate::report::table::Table;
use burn::train::Interrupter;
use clap::{Args, ValueEnum};
use explainer_zoo::image::Crop;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Number of images on the contact sheet of a run.
const SHEET_ROWS: usize = 12;

/// Options of a training run.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Training")]
pub struct TrainArgs {
    /// YAML file of the run, or the name of built-in settings such as quickstart.yaml; `config list` lists them
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Keys to change, as YAML: `train.epochs=2`, `backbone.taps=[layer4]`, `optimizer={name: adamw, lr: 1e-4}`, `KEY=null`
    /// for the default. `config schema` describes all keys
    #[arg(value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Training")]
    pub overrides: Vec<String>,
    /// Folder for checkpoints, metrics and the artifact [default: checkpoints/NAME, with the name of FILE]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Seed of the head, the order of the images, crops and flips [default: 0, or `train.seed` of FILE]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Continue a run: `auto` from the newest valid checkpoint in the output folder, or from the start if there is none; PATH
    /// from this checkpoint
    #[arg(long, value_name = "auto|PATH")]
    pub resume: Option<Resume>,
    /// Data parallelism: `processes`, the processes that a launcher such as mpirun has started, or this one alone;
    /// `burn-ddp`, all CUDA GPUs of this machine in this process, with Burn's all-reduce [default: processes]
    // Descriptions of the single values would make the whole help twice as long.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, hide_default_value = true)]
    pub strategy: Strategy,
}

/// The kind of data parallelism of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// The processes that a launcher has started, or this one alone.
    #[default]
    Processes,
    /// All CUDA GPUs of this machine: one thread for each, with Burn's all-reduce.
    BurnDdp,
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

/// Accepts `key=value` only, so that a misspelt sub-command is not taken for a key.
pub(super) fn key_value(text: &str) -> Result<String, String> {
    let message = "neither a sub-command (see --help) nor KEY=VALUE, such as train.epochs=2";
    if text.contains('=') { Ok(text.to_owned()) } else { Err(message.to_owned()) }
}

impl TrainArgs {
    /// The resolved configuration. Options override KEY=VALUE, which overrides the file.
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

/// Trains, prints the results and writes the artifact.
pub(super) fn run(args: &TrainArgs, global: &Global) -> anyhow::Result<()> {
    let config = args.config(global)?;
    match args.strategy {
        Strategy::Processes => {
            let group = distributed::connect()?;
            let result = match signals::interrupter() {
                Ok(interrupter) => run_as_rank(args, global, &config, &group, &interrupter),
                Err(error) => Err(error),
            };
            ranks::finish(&group, result)
        }
        Strategy::BurnDdp => {
            let gpus = distributed::gpus(&config.device)?;
            let (args, global) = (args.clone(), global.clone());
            ranks::threads(gpus, move |group, interrupter| {
                // GPUs without a working all-reduce fail here, before anything is loaded.
                group.all_reduce_sum(&mut [1.0]).map_err(FitError::from)?;
                run_as_rank(&args, &global, &config, group, interrupter)
            })
        }
    }
}

/// Trains as one rank of `group`. The main rank prints the results.
fn run_as_rank(
    args: &TrainArgs,
    global: &Global,
    config: &Config,
    group: &Arc<ProcessGroup>,
    interrupter: &Interrupter,
) -> anyhow::Result<()> {
    let from = match &args.resume {
        None => ResumeFrom::Start,
        Some(Resume::Auto) => ResumeFrom::Newest,
        Some(Resume::Path(path)) => ResumeFrom::Path(path.clone()),
    };
    if group.is_main() {
        announce_preset(args.config.as_deref().unwrap_or(Path::new("")), global);
        for note in config.notes() {
            eprint(&format!("note: {note}\n"));
        }
    }
    if let Some(section) = config.explainer.bee().filter(|_| group.is_single()) {
        let finished = fit::bee::run(config, section, &from, global.quiet, interrupter)?;
        notices(&finished.notes, &finished.broken);
        return match &finished.artifact {
            Some(_) if global.quiet => Ok(()),
            Some(artifact) => print(&bee::summary(&finished, artifact)?),
            None => print(&stopped(&finished.state, config.output_dir())),
        };
    }
    let finished = fit::run_in_group(config, &from, global.quiet, interrupter, group)?;
    if !group.is_main() {
        return Ok(());
    }
    notices(&finished.notes, &finished.broken);
    match &finished.artifact {
        Some(artifact) => summarise(&finished, artifact, global.quiet),
        None => print(&stopped(&finished.state, config.output_dir())),
    }
}

/// Prints notes and warnings of a run to standard error.
fn notices(notes: &[String], broken: &[BrokenImage]) {
    for note in notes {
        eprint(&format!("note: {note}\n"));
    }
    for broken in broken {
        eprint(&format!("warning: skipped {}\n", broken.reason));
    }
}

/// The state of a run that was stopped before its end.
fn stopped(state: &State, output: &Path) -> String {
    let State { step, total_steps, .. } = state;
    if *step == 0 {
        return "stopped before the first step; there is no checkpoint yet\n".into();
    }
    let due = if state.validation_due { ", before its validation" } else { "" };
    let output = output.display();
    format!(
        "stopped after step {step} of {total_steps}{due}; the checkpoint is in {output}, continue with --resume auto\n"
    )
}

/// Writes the contact sheet and prints the summary.
fn summarise(finished: &fit::Finished, artifact: &Path, quiet: bool) -> anyhow::Result<()> {
    let output = artifact.parent().unwrap_or(artifact);
    let sheet = output.join("contact_sheet.png");
    run_summary::contact_sheet(finished, SHEET_ROWS)?.write(&sheet)?;
    if quiet {
        return Ok(());
    }
    let state = &finished.state;
    let mut facts = Table::new(["run", ""]);
    facts.row(["steps".to_string(), state.steps_made().to_string()]);
    if state.skipped > 0 {
        facts.row(["skipped steps".to_string(), format!("{}, without a readable image", state.skipped)]);
    }
    facts.row(["time".to_string(), format!("{:.0} s", state.seconds)]);
    facts.row(["images/s".to_string(), format!("{:.1}", finished.images as f64 / state.seconds.max(1e-9))]);
    facts.row(["waited for images".to_string(), format!("{:.1} s", finished.waited.as_secs_f64())]);
    facts.row(["broken images".to_string(), finished.broken.len().to_string()]);
    if let Some(best) = &state.best {
        facts.row(["best validation".to_string(), format!("step {}, {} images", best.step, best.images)]);
    }
    facts.row(["artifact".to_string(), artifact.display().to_string()]);
    facts.row(["contact sheet".to_string(), sheet.display().to_string()]);
    print(&format!("{}\n", facts.text()))?;

    let known = finished.valid.object(0, Crop::Centre).is_some();
    if known {
        let mut table = Table::new(["map", "AD(100)", "IC(100)", "AD(50)", "IC(50)", "AD(15)", "IC(15)", "inside"]);
        let rows = run_summary::compare(finished)?;
        finished.extractor.check_failures()?;
        for row in rows {
            let mut cells = vec![row.name.to_string()];
            cells.extend(row.figures.iter().flat_map(|f| [format!("{:.2}", f.ad), format!("{:.2}", f.ic)]));
            cells.push(row.inside.map_or_else(|| "-".into(), |share| format!("{share:.1}%")));
            table.row(cells);
        }
        print(&format!(
            "{}\nAD (average drop): lower is better; IC (increase in confidence): higher is better, both in percent.\n\
             inside: percentage of the map's mass inside the object; for a uniform map it is the object's share of the image.\n",
            table.text()
        ))?;
    } else if let Some(best) = &state.best {
        let mut table = Table::new(["figure", "percent"]);
        best.figures.iter().for_each(|(name, value)| {
            table.row([name.clone(), format!("{value:.2}")]);
        });
        print(&format!("{}\n", table.text()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::checkpoint::RunIdentity;

    #[test]
    fn a_stopped_run_reports_its_state() {
        let run = RunIdentity {
            configuration: serde_json::Value::Null,
            weights_sha256: String::new(),
            images: 0,
            images_sha256: String::new(),
        };
        let start = State::start(run, 8);
        assert!(stopped(&start, Path::new("out")).contains("before the first step"));
        let state = State { step: 4, ..start };
        let text = stopped(&state, Path::new("out"));
        assert_eq!(text, "stopped after step 4 of 8; the checkpoint is in out, continue with --resume auto\n");
        let due = State { validation_due: true, ..state };
        assert!(stopped(&due, Path::new("out")).starts_with("stopped after step 4 of 8, before its validation; "));
    }

    #[test]
    fn options_override_the_file() {
        let args = TrainArgs {
            config: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml").into()),
            overrides: vec!["train.seed=1".into(), "threads=1".into()],
            output: Some("elsewhere".into()),
            seed: Some(2),
            resume: None,
            strategy: Strategy::Processes,
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
