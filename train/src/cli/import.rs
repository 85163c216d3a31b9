//! `explainer-train import`: an artifact from a released PyTorch checkpoint.

use super::train::{TrainArgs, key_value};
use super::{BadUsage, Global, print};
use crate::fit;
use clap::Args;
use explainer_zoo::device::Compute;
use explainer_zoo::weights::WeightsError;
use explainer_zoo::weights::hash::sha256_file;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Make an artifact of the attention head in a T-TAME or P-TAME PyTorch checkpoint
///
/// The head's tensors are found behind `generic.attn_mech.` (a Lightning checkpoint of T-TAME), behind `net.attention.`
/// (P-TAME), or without a prefix (the head's own state dict). The file is parsed as data; nothing in it is executed.
///
/// What the checkpoint does not say comes from a configuration, as for a training run: the classifier and with P-TAME
/// its auxiliary, both with their weights, the taps in the checkpoint's order, the method, the masking procedure, the
/// size of the images. Its images are not opened.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train import ttame_vit.ckpt --config configs/ttame_vit.yaml --output imported/ttame_vit
  explainer-train import ptame_vit.ckpt --config configs/ptame_vit.yaml --output imported/ptame_vit
  explainer-train explain imported/ttame_vit dog.jpg")]
pub struct ImportArgs {
    /// PyTorch file (`.ckpt`, `.pth`, `.pt`) or `.safetensors` file with the head
    pub checkpoint: PathBuf,
    /// YAML file that says what the head was trained on, such as configs/ttame_vit.yaml
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: PathBuf,
    /// Folder for the artifact: a new or an empty one
    #[arg(long, short, value_name = "DIR", required = true)]
    pub output: PathBuf,
    /// Keys to change in the configuration
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<String>,
}

/// Imports.
pub(super) fn run(args: &ImportArgs, global: &Global) -> anyhow::Result<()> {
    let run = TrainArgs {
        config: Some(args.config.clone()),
        overrides: args.overrides.clone(),
        output: Some(args.output.clone()),
        ..TrainArgs::default()
    };
    let config = run.config(global)?;
    let compute = Compute::new(&config.device, config.threads).map_err(|error| BadUsage(error.to_string()))?;
    free(&args.output)?;
    // Before the classifier's weights are downloaded.
    let path = &args.checkpoint;
    drop(File::open(path).map_err(|source| WeightsError::Io { path: path.clone(), source })?);

    let fit::Imported { artifact, ignored } = fit::import(&config, path, &compute, global.quiet)?;
    let yaml = format!(
        "# No run of this program: the head was imported from {path:?}, SHA-256 {}.\n\
         # Explainer, backbone, masking and the size of the images are the configuration it was imported with;\n\
         # the other keys did not train it.\n{}",
        sha256_file(path)?,
        config.to_yaml()?,
    );
    artifact.save(&args.output, &yaml)?;
    if global.quiet {
        return Ok(());
    }
    let about = &artifact.config;
    print(&format!(
        "imported {} for {}, taps {}{}, {} classes, from {} into {} (tensors of the file that are not the head's: \
         {ignored})\n",
        about.method.title(),
        about.backbone.name,
        about.taps.join(", "),
        about.auxiliary.as_ref().map(|record| format!(" of {}", record.backbone.name)).unwrap_or_default(),
        about.head.classes(),
        path.display(),
        args.output.display(),
    ))
}

/// Refuses a folder that is in use: an artifact in it may have cost a week.
fn free(folder: &Path) -> Result<(), BadUsage> {
    let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(BadUsage(format!("--output: {} is not empty; choose another folder", folder.display())));
    }
    Ok(())
}
