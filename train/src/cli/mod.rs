//! The command line: `explainer-train --config FILE` trains, sub-commands do the rest. One file for each sub-command.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration.

mod bee;
mod compare;
mod completions;
mod config;
mod evaluate;
mod explain;
mod explain_images;
mod import;
mod inspect;
mod local_paths;
mod publish;
mod ranks;
mod shared;
mod signals;
mod train;
mod zoo;

pub use compare::CompareArgs;
pub use evaluate::EvaluateArgs;
pub use explain::ExplainArgs;
pub use import::ImportArgs;
pub use inspect::InspectArgs;
pub use publish::PublishArgs;
pub use shared::{BeeArgs, WeightArgs};
pub use train::{Strategy, TrainArgs};
pub use zoo::{ZooArgs, ZooCommand};

use crate::compare::CompareError;
use crate::config::{ConfigError, presets};
use crate::distributed::LaunchError;
use crate::fit::FitError;
use clap::{Args, CommandFactory, Parser, Subcommand};
use explainer_zoo::device::DeviceError;
use explainer_zoo::range;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

/// The environment variable that is used if `--device` is not given.
pub const DEVICE_VARIABLE: &str = "EXPLAINER_DEVICE";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "explainer-train",
    bin_name = "explainer-train",
    version,
    about = "Trains small networks that explain a frozen image classifier in one forward pass",
    override_usage = "explainer-train --config <FILE> [KEY=VALUE]... [OPTIONS]\n       explainer-train <COMMAND>",
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Examples:
  explainer-train --config quickstart.yaml                               train on the built-in images
  explainer-train config show ttame_vit > mine.yaml                      start from the settings of a paper
  explainer-train --config mine.yaml optimizer.lr=5e-4                   change one key of the file
  explainer-train --config mine.yaml --resume auto                       continue the run after an interruption
  explainer-train explain checkpoints/mine/artifact dog.jpg              heat map of the predicted class
  explainer-train evaluate checkpoints/mine/artifact --images val/       AD, IC and AG of the explainer
  explainer-train compare --config compare_quickstart.yaml               a report on several explainers
  explainer-train explain zoo:quickstart photo.png                       a published explainer

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 130 stopped by a second signal."
)]
pub struct Cli {
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Global options: every command has them.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Device: `flex` (the CPU), `cuda:0`, `wgpu` or `tch`, if the program is built with it [env: EXPLAINER_DEVICE] [default:
    /// flex, or `device` of the YAML file]
    // The variable is read in `resolved`: clap's own `env` would show its value on this machine in the help.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<String>,
    /// CPU threads, 1 to 1024 [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = thread_count)]
    pub threads: Option<NonZeroUsize>,
    /// Print warnings and errors only: no progress, no tables
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Parses a number of threads.
fn thread_count(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().map_err(|_| format!("expected 1 to {} threads", range::MAX_THREADS))?;
    range::thread_count(&count, &()).map_err(|error| error.to_string())?;
    NonZeroUsize::new(count).ok_or_else(|| "expected 1 or more".into())
}

impl Global {
    /// Replaces a `--device` that is not given by [`DEVICE_VARIABLE`].
    fn resolved(mut self) -> Self {
        let named = || std::env::var(DEVICE_VARIABLE).ok().filter(|device| !device.is_empty());
        self.device = self.device.or_else(named);
        self
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(ExplainArgs),
    Evaluate(EvaluateArgs),
    Compare(CompareArgs),
    Inspect(InspectArgs),
    Import(ImportArgs),
    Publish(PublishArgs),
    Zoo(ZooArgs),
    /// Check YAML files, list and print the built-in ones, print the JSON Schema
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Completions(completions::CompletionsArgs),
}

/// A command line that clap accepts but that is invalid; leads to exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// A failure that another rank has reported; leads to exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("another rank has failed")]
pub struct AlreadyReported;

/// A failure of one of several ranks.
#[derive(Debug, thiserror::Error)]
#[error("rank {rank} of {size}: {source}")]
pub struct RankFailure {
    /// The rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The failure.
    pub source: anyhow::Error,
}

/// Runs a command line (the program's name first) and reports its errors on standard error.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are such errors too, with exit code 0. A failure to print cannot be reported.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let global = cli.global.resolved();
    let result = match cli.command {
        None => train::run(&cli.train, &global),
        Some(command) => run_command(command, &cli.train, &global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<AlreadyReported>() {
                let _ = std::io::stderr().write_all(report(&error).as_bytes());
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run_command(command: Command, train: &TrainArgs, global: &Global) -> anyhow::Result<()> {
    if *train != TrainArgs::default() {
        let message = "--config and the other options of training cannot be combined with a sub-command; give the sub-command its own options".into();
        return Err(BadUsage(message).into());
    }
    match command {
        Command::Explain(args) => explain::run(&args, global),
        Command::Evaluate(args) => evaluate::run(&args, global),
        Command::Compare(args) => compare::run(&args, global),
        Command::Inspect(args) => inspect::run(&args, global),
        Command::Import(args) => import::run(&args, global),
        Command::Publish(args) => publish::run(&args, global),
        Command::Zoo(args) => zoo::run(&args, global),
        Command::Config(command) => config::run(&command, global),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
    }
}

/// `error: ` and the chain of causes, one per line, without causes that the lines above quote.
fn report(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += &format!("  caused by: {cause}\n");
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    // A device that is not there is bad usage wherever its name comes from: --device, the YAML file, the environment. The
    // wrapping errors are transparent, so that the device error itself is not in the chain.
    let is_usage = |cause: &(dyn std::error::Error + 'static)| {
        let device = matches!(cause.downcast_ref(), Some(FitError::NoDevice(_)))
            || matches!(cause.downcast_ref(), Some(CompareError::Device(_)));
        let launch = cause.downcast_ref().is_some_and(|error| !matches!(error, LaunchError::Device(_)));
        cause.is::<ConfigError>() || cause.is::<BadUsage>() || cause.is::<DeviceError>() || device || launch
    };
    let usage = error.chain().any(is_usage);
    if usage { 2 } else { 1 }
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a note if built-in settings are used because there is no such configuration file.
fn announce_preset(path: &Path, global: &Global) {
    if let Some(preset) = presets::replaces(path).filter(|_| !global.quiet) {
        let (path, name) = (path.display(), preset.name);
        eprint(&format!(
            "note: no file {path} here, using the built-in settings (`explainer-train config show {name}` prints them)\n"
        ));
    }
}

/// Writes to standard error. A failure is ignored: there is no other place to report it.
fn eprint(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_go_on_either_side_of_a_sub_command() {
        for line in ["x --device cuda:1 explain a b.png", "x explain a b.png --device cuda:1"] {
            assert_eq!(parse(line).unwrap().global.device.as_deref(), Some("cuda:1"), "{line}");
        }
    }

    #[test]
    fn invalid_command_lines_are_refused() {
        for line in [
            "x optimizer.lr=1",
            "x --config a.yaml explian",
            "x --config a.yaml --threads 0",
            "x --config a.yaml --threads 1025",
            "x explain a b.png --threads 99999",
            "x explain a",
            "x explain a b.png --class dog --top-k 2",
            "x evaluate a",
            "x evaluate a --images b --percent 0",
            "x evaluate a --images b --percent 101",
            "x compare",
            "x compare a.yaml",
            "x inspect",
            "x inspect a --backbone b",
            "x inspect a --weights b",
            "x explain --model a",
            "x publish a",
            "x publish a --repo b",
            "x publish a --repo b/c@d",
            "x zoo lost",
            "x import a --config b",
            "x import a --output b",
            "x import a --config b --output c d",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn training_options_cannot_be_combined_with_a_sub_command() {
        let cli = parse("x --config a.yaml config schema").unwrap();
        let error = run_command(cli.command.unwrap(), &cli.train, &cli.global).unwrap_err();
        assert_eq!(exit_code(&error), 2);
    }

    #[test]
    fn causes_are_listed_once() {
        let io = std::io::Error::other("disk full");
        let error = anyhow::Error::from(io).context("cannot write x: disk full").context("checkpoint of step 3");
        assert_eq!(report(&error), "error: checkpoint of step 3\n  caused by: cannot write x: disk full\n");
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn a_configuration_error_is_bad_usage_under_any_context() {
        let error = crate::config::Config::load("/nowhere.yaml".as_ref(), &[]).context("while starting").unwrap_err();
        assert_eq!(exit_code(&error), 2);
    }
}
