//! `explainer-train explain`: heat maps of images.

use super::Global;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Explain images: an overlay PNG, and the map as 16-bit PNG and as .npy
///
/// Each image is explained for the classes that the classifier predicts, or for the class asked for. The names of the
/// files in DIR are the image's name, the class and the kind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train explain checkpoints/quickstart/artifact photo.jpg
  explainer-train explain checkpoints/ttame_vit/artifact photos/ --top-k 3 --out maps
  explainer-train explain checkpoints/ttame_vit/artifact dog.jpg --class 'golden retriever'")]
pub struct ExplainArgs {
    /// Folder of a trained explainer, `artifact/` in a run's output
    pub artifact: PathBuf,
    /// Images, or folders of images
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Explain this class, by name or by index from 0, instead of the predicted ones
    #[arg(long, value_name = "NAME|INDEX", conflicts_with = "top_k")]
    pub class: Option<String>,
    /// Explain the k most probable classes
    #[arg(long, value_name = "K", default_value = "1")]
    pub top_k: NonZeroUsize,
    /// Folder for what is written; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "explanations")]
    pub out: PathBuf,
    /// The classifier's weights, where they are no longer at the place that the artifact names
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
}

/// Explains.
pub(super) fn run(_args: &ExplainArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("explain is not built yet")
}
