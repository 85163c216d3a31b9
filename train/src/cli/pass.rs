//! Going through images: each explained, its maps written and told of.

use super::explain::ExplainArgs;
use super::{Global, print};
use crate::data::{Batch, DataError, FileSet, ImageSet, Loader, Plan, Tally};
use crate::explain::file_names::{FileNames, slug, stem};
use crate::explain::{ClassMap, ClassNames};
use crate::report::ReportError;
use crate::report::arrays::{write_npy, write_png16, write_rgb};
use crate::report::heat_map::HeatMap;
use crate::report::overlay::{OPACITY, overlay, picture};
use crate::report::progress::Meter;
use crate::report::table::Table;
use anyhow::Context;
use explainer_zoo::image::{Pixels, Preprocessing};
use image::RgbImage;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// The map of one class of an image, written.
struct Written {
    /// The image's number in the set.
    index: usize,
    class: usize,
    probability: f32,
    /// Name of its files without their endings.
    name: String,
    /// The cells of [`Pass::columns`].
    more: Vec<String>,
}

impl Pass<'_> {
    /// Writes the maps that `explain` gives for each image of a batch, and tells of them: of images named on the command line
    /// in a table, of images named on standard input in a line each.
    pub(super) fn run(
        &self,
        args: &ExplainArgs,
        global: &Global,
        mut explain: impl FnMut(&Batch) -> anyhow::Result<Vec<Shown>>,
    ) -> anyhow::Result<()> {
        fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
        match args.stdin_list {
            true => self.stream(&args.out, BufReader::new(std::io::stdin()), std::io::stdout(), &mut explain),
            false => self.table(args, global, &mut explain),
        }
    }

    fn table(
        &self,
        args: &ExplainArgs,
        global: &Global,
        explain: &mut dyn FnMut(&Batch) -> anyhow::Result<Vec<Shown>>,
    ) -> anyhow::Result<()> {
        let set = self.set(files(&args.images, self.preprocessing)?);
        // Named before any is read, so that a broken image does not change the names of the others.
        let mut taken = FileNames::default();
        let stems: Vec<String> = (0..set.len()).map(|index| taken.claim(stem(&set.path(index)))).collect();
        let mut meter = Meter::new(set.len(), global.quiet);
        let mut table = Table::new(["image", "class", "index", "probability"].iter().chain(self.columns));
        let mut explained = 0;
        let loader = self.each(&set, &stems, &args.out, explain, |images, written, tally| {
            for Written { index, class, probability, more, .. } in written {
                let percent = format!("{:.1}%", 100.0 * probability);
                let cells = [set.name(index), self.names.get(class).to_owned(), class.to_string(), percent];
                table.row(cells.into_iter().chain(more));
            }
            explained += images;
            meter.advance(images, tally);
            Ok(())
        })?;
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

    /// Explains images as `paths` names them, one a line, until its end: as many at a time as are named already. Each map is
    /// told of in a line of JSON as soon as its files are written, and so is each image that cannot be read.
    fn stream(
        &self,
        out: &Path,
        mut paths: BufReader<impl Read>,
        mut told: impl Write,
        explain: &mut dyn FnMut(&Batch) -> anyhow::Result<Vec<Shown>>,
    ) -> anyhow::Result<()> {
        let mut taken = FileNames::default();
        loop {
            let named = lines(&mut paths, self.batch).context("cannot read the list on standard input")?;
            if named.is_empty() {
                return Ok(());
            }
            let set = self.set(named.into_iter().map(PathBuf::from).collect());
            let stems: Vec<String> = (0..set.len()).map(|index| taken.claim(stem(&set.path(index)))).collect();
            let mut tell = |line: serde_json::Value| writeln!(told, "{line}").and_then(|()| told.flush());
            let loader = self.each(&set, &stems, out, explain, |_, written, _| {
                for Written { index, class, probability, name, more } in written {
                    let file = |ending: &str| out.join(format!("{name}.{ending}")).display().to_string();
                    let mut line = json!({
                        "image": set.path(index).display().to_string(),
                        "class": self.names.get(class), "index": class, "probability": probability,
                        "overlay": file("overlay.png"), "map": file("map.npy"),
                    });
                    for (column, cell) in self.columns.iter().zip(more) {
                        line[column] = cell.into();
                    }
                    tell(line)?;
                }
                Ok(())
            })?;
            for broken in loader.tally().files() {
                tell(json!({"image": set.path(broken.index).display().to_string(), "error": broken.reason}))?;
            }
        }
    }

    fn set(&self, files: Vec<PathBuf>) -> Arc<FileSet> {
        Arc::new(FileSet::of(files, self.preprocessing.clone()))
    }

    /// Writes the maps of all images of a set into `out`; `told` hears, a batch at a time, of how many images there are maps,
    /// of the maps, and of what was broken so far.
    fn each(
        &self,
        set: &Arc<FileSet>,
        stems: &[String],
        out: &Path,
        explain: &mut dyn FnMut(&Batch) -> anyhow::Result<Vec<Shown>>,
        mut told: impl FnMut(usize, Vec<Written>, &Tally) -> anyhow::Result<()>,
    ) -> anyhow::Result<Loader> {
        let plan = Plan { max_broken: 1.0, workers: self.workers, ..Plan::validation(self.batch.min(set.len())) };
        let mut loader = Loader::new(set.clone(), plan, 0)?;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let maps = explain(&batch)?;
            let (height, width) = (batch.height, batch.width);
            let photographs = batch.pixels.chunks(3 * height * width);
            let mut written = Vec::new();
            for ((index, values), maps) in batch.indices.iter().zip(photographs).zip(maps) {
                let image = picture(&Pixels { values: values.to_vec(), height, width });
                let mut taken = FileNames::default();
                for (ClassMap { class, probability, map }, more) in maps {
                    let name = format!("{}.{}", stems[*index], taken.claim(slug(self.names.get(class))));
                    write(out, &name, &image, &map)?;
                    written.push(Written { index: *index, class, probability, name, more });
                }
            }
            told(batch.len(), written, loader.tally())?;
        }
        Ok(loader)
    }
}

/// The next lines, at most so many: the first is waited for, the others are those that have arrived with it. None at the
/// end. Empty lines are passed over.
fn lines(from: &mut BufReader<impl Read>, most: usize) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    while found.len() < most.max(1) && (found.is_empty() || from.buffer().contains(&b'\n')) {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            break;
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            found.push(line.to_owned());
        }
    }
    Ok(found)
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

    /// Hands out one piece at a time, as a pipe does.
    struct Pieces(Vec<&'static str>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0).as_bytes();
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn what_has_arrived_is_taken_together_and_nothing_more_is_waited_for() {
        let mut from = BufReader::new(Pieces(vec!["a.png\nb.png\r\n\nc.p", "ng\n", "d.png\ne.png\nf.png\ng", ".png"]));
        let mut next = || lines(&mut from, 2).unwrap();
        assert_eq!(next(), ["a.png", "b.png"]);
        assert_eq!(next(), ["c.png"], "the end of a line that has begun is waited for, the next one is not");
        assert_eq!(next(), ["d.png", "e.png"], "at most two");
        assert_eq!(next(), ["f.png"]);
        assert_eq!(next(), ["g.png"], "the last line may lack its end");
        assert!(next().is_empty() && next().is_empty());
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
