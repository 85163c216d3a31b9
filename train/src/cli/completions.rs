//! `explainer-train completions`: tab completion for shells.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// Print the completion script of a shell: bash, elvish, fish, powershell or zsh
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train completions bash > ~/.local/share/bash-completion/completions/explainer-train
  explainer-train completions fish > ~/.config/fish/completions/explainer-train.fish")]
pub(super) struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, command: &mut Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(args.shell, command, "explainer-train", &mut script);
    super::print(&String::from_utf8(script)?)
}
