//! `explainer-train inspect`: what a file or a backbone holds.

use super::Global;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// Show what an artifact, a checkpoint or a backbone holds
///
/// An artifact or a checkpoint: method, backbone, taps, parameters, passes an explanation costs, training figures. A
/// backbone: its taps with their shapes, its preprocessing and its classes.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "\
Examples:
  explainer-train inspect checkpoints/quickstart/artifact
  explainer-train inspect --backbone vit_b_16"
)]
pub struct InspectArgs {
    /// Folder of an artifact, or a checkpoint
    #[arg(value_name = "ARTIFACT|CHECKPOINT", group = "what")]
    pub path: Option<PathBuf>,
    /// Name of a backbone
    #[arg(long, value_name = "NAME", group = "what")]
    pub backbone: Option<String>,
    /// Weights to read the backbone with, as `backbone.weights` in a configuration; without it shapes alone are shown
    #[arg(long, value_name = "SOURCE", requires = "backbone", conflicts_with = "path")]
    pub weights: Option<String>,
}

/// Inspects.
pub(super) fn run(_args: &InspectArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("inspect is not built yet")
}
