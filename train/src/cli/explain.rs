//! `explainer-train explain`: heat maps of images.

use super::shared::{self, WeightArgs};
use super::{BadUsage, Global, bee, print};
use crate::data::{Batch, DataError, FileSet, ImageSet, Loader, Plan};
use crate::explain::file_names::{FileNames, slug, stem};
use crate::explain::{ClassMap, ClassNames, Which};
use crate::report::ReportError;
use crate::report::arrays::{write_npy, write_png16, write_rgb};
use crate::report::heat_map::HeatMap;
use crate::report::overlay::{OPACITY, overlay, picture};
use crate::report::progress::Meter;
use crate::report::table::Table;
use anyhow::Context;
use clap::Args;
use explainer_zoo::artifact::bee::is_bee;
use explainer_zoo::image::{Pixels, Preprocessing};
use image::RgbImage;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Explain images: an overlay PNG, and the map as 16-bit PNG and as .npy
///
/// Each image is explained for the classes that the classifier predicts, or for the class asked for. The names of the
/// files in DIR are the image's name, the class and the kind.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "\
explainer-train explain [OPTIONS] <ARTIFACT> <IMAGES>...
       explainer-train explain [OPTIONS] --model <ARTIFACT> <IMAGES>...")]
#[command(after_help = "\
Examples:
  explainer-train explain checkpoints/quickstart/artifact photo.jpg
  explainer-train explain --model hf://ada/ttame-vit@v1 dog.jpg
  explainer-train explain zoo:quickstart photo.png
  explainer-train explain checkpoints/ttame_vit/artifact photos/ --top-k 3 --out maps
  explainer-train explain checkpoints/ttame_vit/artifact dog.jpg --class 'golden retriever'
  explainer-train explain checkpoints/bee_quickstart/artifact photo.png --metric INS --draws 32")]
pub struct ExplainArgs {
    /// Folder of a trained explainer, `artifact/` in a run's output; or one on the Hugging Face Hub,
    /// `hf://owner/name[@revision]`, which is downloaded once; or `zoo:NAME`, see `zoo list`
    pub artifact: PathBuf,
    /// Images, or folders of images
    #[arg(required_unless_present = "model")]
    pub images: Vec<PathBuf>,
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
    pub(super) fn which(&self, names: &ClassNames) -> Result<Which, BadUsage> {
        Ok(match &self.class {
            Some(asked) => Which::Class(names.find(asked).map_err(|error| BadUsage(format!("--class: {error}")))?),
            None => Which::Top(self.top_k.get()),
        })
    }

    /// Refuses the options that only a BEE explainer has.
    fn no_bee(&self) -> Result<(), BadUsage> {
        let given = [
            ("--metric", self.metric.is_some()),
            ("--draws", self.draws.is_some()),
            ("--fine-tune", self.fine_tune),
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

/// How the images that were asked for are gone through.
pub(super) struct Pass<'a> {
    pub preprocessing: &'a Preprocessing,
    pub names: &'a ClassNames,
    /// The table's columns behind those of the class.
    pub columns: &'a [&'a str],
    /// What the closing line says of how they were explained.
    pub how: String,
    /// Images at a time.
    pub batch: usize,
    /// Threads that decode.
    pub workers: usize,
}

/// The maps of an image, each with the cells of [`Pass::columns`].
pub(super) type Shown = Vec<(ClassMap, Vec<String>)>;

impl Pass<'_> {
    /// Writes the maps that `explain` gives for each image of a batch, and prints a table of them.
    pub(super) fn run(
        &self,
        args: &ExplainArgs,
        global: &Global,
        mut explain: impl FnMut(&Batch) -> anyhow::Result<Vec<Shown>>,
    ) -> anyhow::Result<()> {
        let set = Arc::new(FileSet::of(files(&args.images, self.preprocessing)?, self.preprocessing.clone()));
        fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;

        // Named before any is read, so that a broken image does not change the names of the others.
        let mut taken = FileNames::default();
        let stems: Vec<String> = (0..set.len()).map(|index| taken.claim(stem(&set.path(index)))).collect();
        let plan = Plan { max_broken: 1.0, workers: self.workers, ..Plan::validation(self.batch.min(set.len())) };
        let mut loader = Loader::new(set.clone(), plan, 0)?;
        let mut meter = Meter::new(set.len(), global.quiet);
        let mut table = Table::new(["image", "class", "index", "probability"].iter().chain(self.columns));
        let mut explained = 0;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let maps = explain(&batch)?;
            let (height, width) = (batch.height, batch.width);
            let photographs = batch.pixels.chunks(3 * height * width);
            for ((index, values), maps) in batch.indices.iter().zip(photographs).zip(maps) {
                let image = picture(&Pixels { values: values.to_vec(), height, width });
                let mut taken = FileNames::default();
                for (ClassMap { class, probability, map }, more) in maps {
                    let name = format!("{}.{}", stems[*index], taken.claim(slug(self.names.get(class))));
                    write(&args.out, &name, &image, &map)?;
                    let percent = format!("{:.1}%", 100.0 * probability);
                    let cells = [set.name(*index), self.names.get(class).to_owned(), class.to_string(), percent];
                    table.row(cells.into_iter().chain(more));
                }
            }
            explained += batch.len();
            meter.advance(batch.len(), loader.tally());
        }
        meter.finish(loader.tally());
        if explained == 0 {
            anyhow::bail!("none of {} images could be explained", set.len());
        }
        let missing = match loader.tally().count() {
            0 => String::new(),
            broken => format!(", {broken} could not be read"),
        };
        print(&format!(
            "{}\n{explained} images explained{missing}{}; in {}/ for each: NAME.CLASS.overlay.png, .map.png, .map.npy\n",
            table.text(),
            self.how,
            args.out.display()
        ))
    }
}

/// The images named on the command line, folders replaced by the images in them. A file that cannot be read is found
/// broken when it is loaded.
fn files(paths: &[PathBuf], preprocessing: &Preprocessing) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let set = FileSet::open(path, preprocessing.clone())?;
            files.extend((0..set.len()).map(|index| set.path(index)));
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Writes what is shown of one class: the map over the cropped image, and the map alone at the size of the crop.
fn write(folder: &Path, name: &str, image: &RgbImage, map: &HeatMap) -> Result<(), ReportError> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let map = map.resized(height, width);
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    write_rgb(&path("overlay.png"), &overlay(image, &map, OPACITY))?;
    write_npy(&path("map.npy"), &[height, width], map.values())?;
    write_png16(&path("map.png"), &map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

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
        for line in ["x hf://a/b", "x --model hf://a/b"] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn folders_are_searched_and_files_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.JPG", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let preprocessing = explainer_zoo::backbone::imagenet();
        let paths = [PathBuf::from("missing.png"), folder.path().into()];
        let expected = [PathBuf::from("missing.png"), folder.path().join("a.JPG"), folder.path().join("b.png")];
        assert_eq!(files(&paths, &preprocessing).unwrap(), expected);
    }

    #[test]
    fn three_files_a_class_at_the_size_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let map = HeatMap::new(1, 2, vec![0.0, 1.0]).unwrap();
        write(folder.path(), "dog.husky", &RgbImage::new(6, 4), &map).unwrap();
        for ending in ["overlay.png", "map.png"] {
            let written = image::open(folder.path().join(format!("dog.husky.{ending}"))).unwrap();
            assert_eq!((written.width(), written.height()), (6, 4), "{ending}");
        }
        let bytes = fs::read(folder.path().join("dog.husky.map.npy")).unwrap();
        assert_eq!(npyz::NpyFile::new(&bytes[..]).unwrap().shape(), [4, 6]);
    }
}
