//! `explainer-train explain`: heat maps of images.

use super::pass::Pass;
use super::shared::{self, WeightArgs};
use super::{BadUsage, Global, bee};
use crate::explain::{ClassNames, Target};
use clap::Args;
use explainer_zoo::artifact::bee::is_bee;
use explainer_zoo::explainer::bee::Family;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Explain images: an overlay PNG, and the map as 16-bit PNG and as .npy
///
/// Each image is explained for the classes that the classifier predicts, or for the class asked for. The names of the
/// files in DIR are the image's name, the class and the kind.
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
    /// Folder of a trained explainer, `artifact/` in a run's output; or one on the Hugging Face Hub,
    /// `hf://owner/name[@revision]`, which is downloaded once; or `zoo:NAME`, see `zoo list`
    pub artifact: PathBuf,
    /// Images, or folders of images
    #[arg(required_unless_present_any = ["model", "stdin_list"])]
    pub images: Vec<PathBuf>,
    /// Read the images' paths from standard input, one a line, for as long as there are any, and print a line of JSON for
    /// each map as soon as it is written: the explainer stays loaded
    #[arg(long, conflicts_with_all = ["images", "model"])]
    pub stdin_list: bool,
    /// The explainer, in place of ARTIFACT: what is named besides is images
    #[arg(long, value_name = "ARTIFACT")]
    pub model: Option<PathBuf>,
    /// Explain this class, by name or by index from 0, instead of the predicted ones
    #[arg(long, value_name = "NAME|INDEX", conflicts_with = "top_k")]
    pub class: Option<String>,
    /// Explain the k most probable classes
    #[arg(long, value_name = "K", default_value = "1")]
    pub top_k: NonZeroUsize,
    /// Explain for this metric: the best of several maps for it (BEE)
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// How many maps are drawn for an explanation; by default as the artifact says (BEE)
    #[arg(long, value_name = "T")]
    pub draws: Option<NonZeroUsize>,
    /// Learn from each map before the next is drawn, for this image alone (BEE)
    #[arg(long)]
    pub fine_tune: bool,
    /// Draw all baselines from one family in place of the learned mixture: normal, uniform, blur, constant or train-data
    /// (BEE)
    #[arg(long, value_name = "NAME", conflicts_with = "fine_tune")]
    pub family: Option<Family>,
    /// The context's weights, if they are no longer where the artifact says (BEE)
    #[arg(long, value_name = "SOURCE")]
    pub context_weights: Option<String>,
    /// Folder for what is written; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "explanations")]
    pub out: PathBuf,
    /// Where the weights are.
    #[command(flatten)]
    pub places: WeightArgs,
}

impl ExplainArgs {
    /// The same with the explainer in its place, wherever on the command line it was.
    fn settled(&self) -> Self {
        let mut args = self.clone();
        if let Some(model) = args.model.take() {
            let first = std::mem::replace(&mut args.artifact, model);
            args.images.insert(0, first);
        }
        args
    }

    /// The classes that were asked for.
    pub(super) fn which(&self, names: &ClassNames) -> Result<Target, BadUsage> {
        Ok(match &self.class {
            Some(asked) => Target::Class(names.find(asked).map_err(|error| BadUsage(format!("--class: {error}")))?),
            None => Target::Top(self.top_k.get()),
        })
    }

    /// Refuses the options that only a BEE explainer has.
    fn no_bee(&self) -> Result<(), BadUsage> {
        let given = [
            ("--metric", self.metric.is_some()),
            ("--draws", self.draws.is_some()),
            ("--fine-tune", self.fine_tune),
            ("--family", self.family.is_some()),
            ("--context-weights", self.context_weights.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                let artifact = self.artifact.display();
                Err(BadUsage(format!("{option}: {artifact} is no BEE explainer: it has one map a class; leave it out")))
            }
            None => Ok(()),
        }
    }
}

/// Images at a time.
const BATCH: usize = 16;

/// Explains.
pub(super) fn run(args: &ExplainArgs, global: &Global) -> anyhow::Result<()> {
    let settled = args.settled();
    let found = shared::find(&settled.artifact, global)?;
    found.trusted(&settled.places.given())?;
    found.trusted(&[("context", "--context-weights", settled.context_weights.is_some())])?;
    let args = &ExplainArgs { artifact: found.folder.clone(), ..settled };
    if is_bee(&args.artifact) {
        return bee::explain(args, global);
    }
    args.no_bee()?;
    let loaded = shared::open(&args.artifact, &args.places, global)?;
    let config = &loaded.artifact.config;
    let names = ClassNames::of(config);
    let which = args.which(&names)?;
    let device = &loaded.compute.device;
    Pass {
        preprocessing: &config.preprocessing,
        names: &names,
        columns: &[],
        how: String::new(),
        batch: BATCH,
        workers: loaded.compute.threads,
    }
    .run(args, global, |batch| {
        let maps = loaded.maps(batch.images(device), which)?.per_image()?;
        Ok(maps.into_iter().map(|maps| maps.into_iter().map(|map| (map, Vec::new())).collect()).collect())
    })
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
}
