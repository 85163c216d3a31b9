//! Explaining image files: heat maps to files, and a table or lines of JSON.

use super::{Global, print};
use crate::data::{BrokenImages, DataError, FileSet, ImageSet, Loader, LoaderOptions};
use crate::explain::ClassNames;
use crate::explain::file_names::{FileNames, slug, stem};
use crate::report::ReportError;
use crate::report::arrays::{write_npy, write_png16, write_rgb};
use crate::report::overlay::{OPACITY, overlay, picture};
use crate::report::progress::ImageProgress;
use crate::report::table::Table;
use anyhow::Context;
use explainer_zoo::explain::{Explain, ExplainBatch, Explanation, HeatMap, Targets};
use explainer_zoo::image::{Pixels, Preprocessing};
use image::RgbImage;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An explainer, and what to explain with it.
pub(super) struct ImageExplainer<'a> {
    pub explainer: &'a dyn Explain,
    pub names: &'a ClassNames,
    pub targets: Targets<'a>,
    /// Folder that files are written to.
    pub out: &'a Path,
    /// Threads that decode images.
    pub workers: usize,
}

/// The written files of one heat map.
struct Written {
    /// Index of the image in the set.
    index: usize,
    class: usize,
    probability: f32,
    /// Name of the files without their endings.
    name: String,
    /// Values of [`Explain::details`].
    details: Vec<String>,
}

impl ImageExplainer<'_> {
    /// Explains the images at `paths`, files or folders, and prints a table.
    pub fn table(&self, paths: &[PathBuf], global: &Global) -> anyhow::Result<()> {
        let set = self.set(files(paths, self.explainer.preprocessing())?);
        // Claimed before any image is read, so that an unreadable image does not change the names of the others.
        let mut taken = FileNames::default();
        let stems: Vec<String> = (0..set.len()).map(|index| taken.claim(stem(&set.path(index)))).collect();
        let mut meter = ImageProgress::new(set.len(), global.quiet);
        let details = self.explainer.details();
        let header = ["image", "class", "index", "probability"].into_iter().map(String::from).chain(details);
        let mut table = Table::new(header);
        let mut explained = 0;
        let loader = self.each(&set, &stems, |images, written, tally| {
            for Written { index, class, probability, details, .. } in written {
                let percent = format!("{:.1}%", 100.0 * probability);
                let cells = [set.name(index), self.names.get(class).to_owned(), class.to_string(), percent];
                table.row(cells.into_iter().chain(details));
            }
            explained += images;
            meter.advance(images, tally);
            Ok(())
        })?;
        meter.finish(loader.broken_images());
        if explained == 0 {
            anyhow::bail!("none of {} images could be explained", set.len());
        }
        let missing = match loader.broken_images().count() {
            0 => String::new(),
            broken => format!(", {broken} could not be read"),
        };
        print(&format!(
            "{}\n{explained} images explained by {}{missing}; in {}/ for each: NAME.CLASS.overlay.png, .map.png, .map.npy\n",
            table.text(),
            self.explainer.name(),
            self.out.display()
        ))
    }

    /// Explains the images whose paths are the lines of `paths`, until its end: as many at a time as have arrived. Writes a
    /// line of JSON to `output` for each heat map as soon as its files are written, and for each image that cannot be read.
    pub fn stream(&self, mut paths: BufReader<impl Read>, mut output: impl Write) -> anyhow::Result<()> {
        let mut taken = FileNames::default();
        let columns = self.explainer.details();
        loop {
            let named =
                lines(&mut paths, self.explainer.batch_size()).context("cannot read the list on standard input")?;
            if named.is_empty() {
                return Ok(());
            }
            let set = self.set(named.into_iter().map(PathBuf::from).collect());
            let stems: Vec<String> = (0..set.len()).map(|index| taken.claim(stem(&set.path(index)))).collect();
            let mut write = |line: serde_json::Value| writeln!(output, "{line}").and_then(|()| output.flush());
            let loader = self.each(&set, &stems, |_, written, _| {
                for Written { index, class, probability, name, details } in written {
                    let file = |ending: &str| self.out.join(format!("{name}.{ending}")).display().to_string();
                    let mut line = json!({
                        "image": set.path(index).display().to_string(),
                        "class": self.names.get(class), "index": class, "probability": probability,
                        "overlay": file("overlay.png"), "map": file("map.npy"),
                    });
                    for (column, value) in columns.iter().zip(details) {
                        line[column] = value.into();
                    }
                    write(line)?;
                }
                Ok(())
            })?;
            for broken in loader.broken_images().files() {
                write(json!({"image": set.path(broken.index).display().to_string(), "error": broken.reason}))?;
            }
        }
    }

    fn set(&self, files: Vec<PathBuf>) -> Arc<FileSet> {
        Arc::new(FileSet::of(files, self.explainer.preprocessing().clone()))
    }

    /// Explains all images of a set and writes their files. `each` receives, batch by batch, the number of explained images,
    /// the written files, and the images that could not be read so far.
    fn each(
        &self,
        set: &Arc<FileSet>,
        stems: &[String],
        mut each: impl FnMut(usize, Vec<Written>, &BrokenImages) -> anyhow::Result<()>,
    ) -> anyhow::Result<Loader> {
        let batch_size = self.explainer.batch_size().min(set.len());
        let plan = LoaderOptions { max_broken: 1.0, workers: self.workers, ..LoaderOptions::validation(batch_size) };
        let (device, preprocessing) = (self.explainer.device(), self.explainer.preprocessing());
        let mut loader = Loader::new(set.clone(), plan, 0)?;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let images = ExplainBatch::from_pixels(batch.images(&device), preprocessing);
            let maps = self.explainer.explain_batch(&images, self.targets)?.per_image()?;
            let (height, width) = (batch.height, batch.width);
            let photographs = batch.pixels.chunks(3 * height * width);
            let mut written = Vec::new();
            for ((index, values), maps) in batch.indices.iter().zip(photographs).zip(maps) {
                let image = picture(&Pixels { values: values.to_vec(), height, width });
                let mut taken = FileNames::default();
                for Explanation { class, probability, map, details } in maps {
                    let name = format!("{}.{}", stems[*index], taken.claim(slug(self.names.get(class))));
                    write(self.out, &name, &image, &map)?;
                    written.push(Written { index: *index, class, probability, name, details });
                }
            }
            each(batch.len(), written, loader.broken_images())?;
        }
        Ok(loader)
    }
}

/// The next lines, at most `most`: waits for the first, and takes the others only if they have arrived with it. Empty at the
/// end. Skips empty lines.
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

/// The images at `paths`, folders replaced by the images in them. A file that cannot be read is found when it is loaded.
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

/// Writes the files of one heat map: an overlay on the cropped image, and the map at the size of the crop.
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
    use std::fs;

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
    fn lines_that_have_arrived_are_taken_together() {
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
