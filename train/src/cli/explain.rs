//! `explainer-train explain`: heat maps of images.

use super::explain_images::ImageExplainer;
use super::shared::{self, BeeArgs, WeightArgs};
use super::{BadUsage, Global};
use crate::explain::ClassNames;
use anyhow::Context;
use clap::Args;
use explainer_zoo::explain::Targets;
use std::fs;
use std::io::BufReader;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Explain images: an overlay PNG, and the map as 16-bit PNG and as .npy
///
/// Explains the predicted class of each image, or the class of --class. The files in DIR are named after the image and the
/// class: IMAGE.CLASS.overlay.png, .map.png and .map.npy.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "\
explainer-train explain [OPTIONS] <ARTIFACT> <IMAGES>...
       explainer-train explain [OPTIONS] --model <ARTIFACT> <IMAGES>...
       explainer-train explain [OPTIONS] --stdin-list <ARTIFACT>")]
#[command(after_help = "\
Examples:
  explainer-train explain checkpoints/quickstart/artifact photo.jpg
  explainer-train explain --model hf://ada/ttame-vit@v1 dog.jpg
  explainer-train explain zoo:quickstart photo.png
  explainer-train explain checkpoints/ttame_vit/artifact photos/ --top-k 3 --out maps
  explainer-train explain checkpoints/ttame_vit/artifact dog.jpg --class 'golden retriever'
  explainer-train explain checkpoints/bee_quickstart/artifact photo.png --metric INS --draws 32
  find photos -name '*.jpg' | explainer-train explain checkpoints/ttame_vit/artifact --stdin-list")]
pub struct ExplainArgs {
    /// Trained explainer: the output folder of a run or `artifact/` in it; `hf://owner/name[@revision]` on the Hugging Face
    /// Hub, which is downloaded once; or `zoo:NAME`, see `zoo list`
    pub artifact: PathBuf,
    /// Images, or folders of images
    #[arg(required_unless_present_any = ["model", "stdin_list"])]
    pub images: Vec<PathBuf>,
    /// Read the paths of images from standard input, one per line, until its end, and print a line of JSON for each heat map
    /// as soon as its files are written; the explainer stays loaded
    #[arg(long, conflicts_with_all = ["images", "model"])]
    pub stdin_list: bool,
    /// The explainer, instead of ARTIFACT; all other arguments are images
    #[arg(long, value_name = "ARTIFACT")]
    pub model: Option<PathBuf>,
    /// Explain this class, by name or by index from 0, instead of the predicted ones
    #[arg(long, value_name = "NAME|INDEX", conflicts_with = "top_k")]
    pub class: Option<String>,
    /// Explain the k most probable classes
    #[arg(long, value_name = "K", default_value = "1")]
    pub top_k: NonZeroUsize,
    /// Folder for the files; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "explanations")]
    pub out: PathBuf,
    /// Where the weights are.
    #[command(flatten)]
    pub places: WeightArgs,
    /// BEE's options.
    #[command(flatten)]
    pub bee: BeeArgs,
}

impl ExplainArgs {
    /// The same with the explainer of `--model` as `artifact`.
    fn settled(&self) -> Self {
        let mut args = self.clone();
        if let Some(model) = args.model.take() {
            let first = std::mem::replace(&mut args.artifact, model);
            args.images.insert(0, first);
        }
        args
    }

    /// The classes to explain.
    fn targets(&self, names: &ClassNames) -> Result<Targets<'static>, BadUsage> {
        Ok(match &self.class {
            Some(class) => Targets::Class(names.find(class).map_err(|error| BadUsage(format!("--class: {error}")))?),
            None => Targets::Top(self.top_k.get()),
        })
    }
}

/// Explains.
pub(super) fn run(args: &ExplainArgs, global: &Global) -> anyhow::Result<()> {
    let args = args.settled();
    let found = shared::find(&args.artifact, global)?;
    found.trusted(&args.places.given())?;
    let explainer = shared::open(&found, &args.places, &args.bee, global)?.explainer;
    let names = ClassNames::of(explainer.as_ref());
    let targets = args.targets(&names)?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let workers = shared::compute(global)?.threads;
    let images = ImageExplainer { explainer: explainer.as_ref(), names: &names, targets, out: &args.out, workers };
    match args.stdin_list {
        true => until_closed(images.stream(BufReader::new(std::io::stdin()), std::io::stdout())),
        false => images.table(&args.images, global),
    }
}

/// A reader that closes the pipe (`| head -1`) ends the command; that is not an error.
fn until_closed(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    #[test]
    fn the_explainer_comes_first_or_as_the_model() {
        for line in ["x hf://a/b 1.png 2.png", "x --model hf://a/b 1.png 2.png", "x 1.png 2.png --model hf://a/b"] {
            let args = Line::try_parse_from(line.split(' ')).ok().unwrap().args.settled();
            assert_eq!(args.artifact, Path::new("hf://a/b"), "{line}");
            assert_eq!(args.images, [PathBuf::from("1.png"), "2.png".into()], "{line}");
        }
        let args = Line::try_parse_from(["x", "zoo:a", "--stdin-list"]).ok().unwrap().args.settled();
        assert_eq!((args.artifact.as_path(), args.images.len(), args.stdin_list), (Path::new("zoo:a"), 0, true));
        for line in ["x hf://a/b", "x --model hf://a/b", "x hf://a/b 1.png --stdin-list"] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        use std::io::{Error, ErrorKind};
        assert!(until_closed(Err(Error::from(ErrorKind::BrokenPipe).into())).is_ok());
        assert!(until_closed(Err(Error::from(ErrorKind::StorageFull).into())).is_err());
    }
}
