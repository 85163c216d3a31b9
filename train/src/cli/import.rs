//! `explainer-train import`: makes an artifact from a released PyTorch checkpoint.

use super::train::{TrainArgs, key_value};
use super::{BadUsage, Global, announce_preset, print};
use crate::fit;
use clap::Args;
use explainer_zoo::device::Compute;
use explainer_zoo::weights::WeightsError;
use explainer_zoo::weights::hash::sha256_file;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Convert the attention head of a T-TAME or P-TAME PyTorch checkpoint to an artifact
///
/// The tensors of the head have the prefix `generic.attn_mech.` (Lightning checkpoints of T-TAME), the prefix
/// `net.attention.` (P-TAME), or no prefix (the state dict of the head). The file is parsed as data; nothing in it is
/// executed.
///
/// The configuration, a YAML file as for training, gives what the checkpoint does not contain: the method, the classifier
/// and the auxiliary of P-TAME with their weights, the taps in the checkpoint's order, the masking, the size of the
/// images. The images of the configuration are not read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train import ttame_vit.ckpt --config ttame_vit.yaml --output imported/ttame_vit
  explainer-train import ptame_vit.ckpt --config ptame_vit.yaml --output imported/ptame_vit
  explainer-train explain imported/ttame_vit dog.jpg")]
pub struct ImportArgs {
    /// PyTorch file (`.ckpt`, `.pth`, `.pt`) or `.safetensors` file that contains the head
    pub checkpoint: PathBuf,
    /// YAML file with the settings of the head's training, or the name of built-in settings such as ttame_vit.yaml
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: PathBuf,
    /// Folder for the artifact: new or empty
    #[arg(long, short, value_name = "DIR", required = true)]
    pub output: PathBuf,
    /// Keys to change in the configuration: `data.crop=224`
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &ImportArgs, global: &Global) -> anyhow::Result<()> {
    let run = TrainArgs {
        config: Some(args.config.clone()),
        overrides: args.overrides.clone(),
        output: Some(args.output.clone()),
        ..TrainArgs::default()
    };
    let config = run.config(global)?;
    announce_preset(&args.config, global);
    let compute = Compute::new(&config.device, config.threads).map_err(|error| BadUsage(error.to_string()))?;
    check_empty(&args.output)?;
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

/// Refuses a folder that is not empty, so that no artifact is overwritten.
fn check_empty(folder: &Path) -> Result<(), BadUsage> {
    let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(BadUsage(format!("--output: {} is not empty; choose another folder", folder.display())));
    }
    Ok(())
}
