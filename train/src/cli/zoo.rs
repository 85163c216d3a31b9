//! `explainer-train zoo`: the explainers that this project publishes.

use super::{BadUsage, Global, print, shared};
use crate::data::{EvaluationSet, Loader, LoaderOptions};
use crate::report::progress::with_download_bar;
use crate::report::table::Table;
use clap::{Args, Subcommand};
use explainer_zoo::artifact::BackboneMatch;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Explain, ExplainBatch, Explainer, Targets};
use explainer_zoo::weights::source::SourceSettings;
use explainer_zoo::zoo::{self, Entry};
use std::path::Path;

/// The scenes that are explained to verify an explainer.
const SCENES: &str = "shapes:2";

/// The explainers that this project publishes: list them, or verify them
#[derive(Debug, Args)]
pub struct ZooArgs {
    /// The action; `list` by default.
    #[command(subcommand)]
    pub command: Option<ZooCommand>,
}

/// The actions of the command.
#[derive(Debug, Subcommand)]
pub enum ZooCommand {
    /// List the explainers, with what they explain and their figures
    #[command(after_help = "\
Examples:
  explainer-train zoo list
  explainer-train explain zoo:quickstart photo.jpg")]
    List,
    /// Check each explainer: its files, its classifier, and that it explains
    ///
    /// The SHA-256 of every file is compared with the registry's (model.safetensors, config.json, and README.md and train.yaml
    /// if present; a file without a SHA-256 in the registry fails). The explainer is loaded with its classifier, whose
    /// weights must be those of the training, and explains images of the quickstart. Exit code 1 if any check fails.
    /// Explainers on the Hub and the classifiers' weights are downloaded.
    #[command(after_help = "\
Examples:
  explainer-train zoo verify
  explainer-train zoo verify quickstart")]
    Verify {
        /// Explainers to check [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Lists or verifies.
pub(super) fn run(args: &ZooArgs, global: &Global) -> anyhow::Result<()> {
    match args.command.as_ref().unwrap_or(&ZooCommand::List) {
        ZooCommand::List => print(&list(&zoo::entries()?)),
        ZooCommand::Verify { names } => {
            let entries = match names.as_slice() {
                [] => zoo::entries()?,
                names => names
                    .iter()
                    .map(|name| zoo::find(name).map_err(|error| BadUsage(error.to_string())))
                    .collect::<Result<_, _>>()?,
            };
            let compute = shared::compute(global)?;
            let mut failed = 0;
            for entry in &entries {
                match verify(entry, &compute, global) {
                    Ok(found) => print(&format!("{}: sound; {found}\n", entry.name))?,
                    Err(error) => {
                        failed += 1;
                        print(&format!("{}: FAILED: {error:#}\n", entry.name))?;
                    }
                }
            }
            match failed {
                0 => Ok(()),
                _ => anyhow::bail!("{failed} of {} explainers failed", entries.len()),
            }
        }
    }
}

fn list(entries: &[Entry]) -> String {
    let mut table = Table::new(["name", "method", "classifier", "where", "licence", "AD(50)", "passes"]);
    for entry in entries {
        let figure = entry.figures.get("AD(50)").map_or("-".to_owned(), |value| format!("{value:.2}"));
        let passes = entry.passes.forward + entry.passes.backward + entry.passes.auxiliary_forward;
        table.row([
            entry.name.clone(),
            entry.method.title().to_owned(),
            entry.backbone.clone(),
            entry.place(),
            entry.license.clone(),
            figure,
            passes.to_string(),
        ]);
    }
    format!(
        "{}\nAD(50): mean drop of the predicted class's score in percent, lower is better. Explain with one by \
         `explainer-train explain zoo:NAME IMAGE`.\n",
        table.text()
    )
}

/// Opens an explainer and explains images with it; a summary.
fn verify(entry: &Entry, compute: &Compute, global: &Global) -> anyhow::Result<String> {
    let settings = SourceSettings::from_env();
    let opened = with_download_bar(global.quiet, |progress| entry.open(&settings, progress))?;
    let load =
        |progress: &mut dyn FnMut(u64, Option<u64>)| Explainer::load(opened.folder(), None, None, compute, progress);
    let loaded = with_download_bar(global.quiet, load)?;
    for matched in &loaded.matched {
        if let BackboneMatch::Unverified(reason) = matched {
            anyhow::bail!("{reason}");
        }
    }
    let config = &loaded.artifact.config;
    if (config.method, &config.backbone.name, config.passes) != (entry.method, &entry.backbone, entry.passes) {
        anyhow::bail!("method, classifier or cost differ between the registry and the artifact");
    }
    if let Some((name, value)) = entry.figures.iter().find(|(name, value)| config.figures.get(*name) != Some(value)) {
        anyhow::bail!("the registry has {name} = {value}, the artifact {:?}", config.figures.get(name));
    }
    let explained = explain(&loaded)?;
    Ok(format!("SHA-256 of {} files, classifier verified, {explained} maps", entry.sha256.len()))
}

/// Explains the quickstart's scenes, resized to the explainer's images; the number of maps.
fn explain(loaded: &Explainer) -> anyhow::Result<usize> {
    let preprocessing = &loaded.artifact.config.preprocessing;
    let folder = tempfile::tempdir()?;
    let images = match EvaluationSet::open(Path::new(SCENES), preprocessing) {
        Ok(images) => images,
        // Another size: the same scenes as files, which are resized as photographs are.
        Err(crate::data::DataError::SceneSide { .. }) => {
            scenes(folder.path())?;
            EvaluationSet::open(folder.path(), preprocessing)?
        }
        Err(error) => return Err(error.into()),
    };
    let set = images.any();
    let loader = Loader::new(set.clone(), LoaderOptions::validation(set.len()), 0)?;
    let mut count = 0;
    for batch in loader {
        let pixels = batch?.images(&loaded.compute.device);
        let explained = loaded.explain_batch(&ExplainBatch::from_pixels(pixels, preprocessing), Targets::Top(1))?;
        for map in explained.per_image()?.into_iter().flatten() {
            if !map.map.values().iter().all(|value| (0.0..=1.0).contains(value)) {
                anyhow::bail!("a map of class {} has values outside 0..1, or NaN", map.class);
            }
            count += 1;
        }
    }
    match count == set.len() {
        true => Ok(count),
        false => anyhow::bail!("{count} maps of {} images", set.len()),
    }
}

/// Writes the scenes as PNG files.
fn scenes(folder: &Path) -> anyhow::Result<()> {
    use crate::data::shapes::{SIDE, ShapesSet, Split};
    let set = ShapesSet::new(Split::Fresh, 2, 0);
    for index in 0..set.len() {
        let scene = set.scene(index);
        let side = u32::try_from(SIDE)?;
        if let Some(image) = image::RgbImage::from_raw(side, side, scene.image.to_vec()) {
            crate::report::arrays::write_rgb(&folder.join(format!("{index}.png")), &image)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_written_as_files() {
        let folder = tempfile::tempdir().unwrap();
        scenes(folder.path()).unwrap();
        let images = EvaluationSet::open(folder.path(), &explainer_zoo::backbone::imagenet()).unwrap();
        assert_eq!(images.any().len(), 2);
    }

    #[test]
    fn the_list_names_every_explainer() {
        let text = list(&zoo::entries().unwrap());
        assert!(text.contains("quickstart") && text.contains("shipped") && text.contains("T-TAME"), "{text}");
    }
}
