//! Trained explainers: found, or trained now.

use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use explainer_zoo::artifact;
use explainer_zoo::artifact::BackboneRecord;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::hash::sha256;
use serde::Deserialize;

use super::error::CompareError;
use crate::config::{CompareConfig, Config, Source};
use crate::fit::{self, ResumeFrom};
use crate::report::progress::line;

/// The classifier of an explainer, from its `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct About {
    pub backbone: BackboneRecord,
    pub preprocessing: Preprocessing,
    pub class_names: Option<Vec<String>>,
}

/// The artifact of a trained explainer.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub folder: PathBuf,
    /// The YAML file of its run, if the configuration names the run.
    pub run: Option<PathBuf>,
    pub about: About,
    /// SHA-256 over its configuration and its tensors.
    pub sha256: String,
}

/// For each explainer of the configuration its artifact, or `None` for a method without training. Trains explainers whose run
/// has no artifact yet. `None` if the training was interrupted.
pub(super) fn trained(
    config: &CompareConfig,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Option<Vec<Option<Trained>>>, CompareError> {
    let mut missing = Vec::new();
    for explainer in &config.explainers {
        if let Some(Source::Artifact(folder)) = explainer.source()
            && artifact::locate(folder).is_err()
        {
            missing.push(how_to_train(&explainer.name(), folder));
        }
    }
    // Before anything is trained, which takes long.
    if !missing.is_empty() {
        return Err(CompareError::Missing { missing });
    }
    let mut found = Vec::new();
    for explainer in &config.explainers {
        let name = explainer.name();
        found.push(match explainer.source() {
            Some(Source::Artifact(folder)) => Some(Trained::open(&name, located(folder), None)?),
            Some(Source::Train(file)) => {
                let Some(folder) = artifact_of_run(&name, file, config, quiet, interrupter)? else { return Ok(None) };
                Some(Trained::open(&name, folder, Some(file.into()))?)
            }
            _ => None,
        });
    }
    Ok(Some(found))
}

/// The artifact in the folder that a configuration names, which may be the output of a run.
fn located(folder: &Path) -> PathBuf {
    artifact::locate(folder).unwrap_or_else(|_| folder.to_path_buf())
}

/// The missing explainer and, if it is known, the command that trains it.
fn how_to_train(name: &str, folder: &Path) -> String {
    let run = folder.parent().filter(|_| folder.ends_with("artifact")).and_then(Path::file_name);
    let file = run.map(|run| Path::new("configs").join(run).with_extension("yaml")).filter(|file| file.is_file());
    let file = file.map_or("its YAML file".into(), |file| file.display().to_string());
    format!("{name}: there is no explainer in {}; train it with `explainer-train --config {file}`", folder.display())
}

/// The artifact of a run, which is started or continued if it has none yet.
fn artifact_of_run(
    name: &str,
    file: &Path,
    config: &CompareConfig,
    quiet: bool,
    interrupter: &Interrupter,
) -> Result<Option<PathBuf>, CompareError> {
    let mut run = Config::load(file, &[])?;
    let folder = run.output_dir().join("artifact");
    if folder.join(artifact::CONFIG).is_file() {
        return Ok(Some(folder));
    }
    run.device.clone_from(&config.device);
    run.threads = config.threads.or(run.threads);
    if !quiet {
        line(&format!("{name}: {} has left no explainer yet, it is trained first", file.display()));
    }
    let failed = |source| CompareError::Train { name: name.into(), source };
    let (artifact, notes) = match run.explainer.bee() {
        Some(section) => {
            let finished = fit::bee::run(&run, section, &ResumeFrom::Newest, quiet, interrupter).map_err(failed)?;
            (finished.artifact, finished.notes)
        }
        None => {
            let finished = fit::run(&run, &ResumeFrom::Newest, quiet, interrupter).map_err(failed)?;
            (finished.artifact, finished.notes)
        }
    };
    if !quiet {
        notes.iter().for_each(|note| line(&format!("note: {name}: {note}")));
    }
    Ok(artifact)
}

impl Trained {
    fn open(name: &str, folder: PathBuf, run: Option<PathBuf>) -> Result<Self, CompareError> {
        let read = |file: &str| {
            let path = folder.join(file);
            std::fs::read(&path).map_err(|source| CompareError::Output { path, source })
        };
        let config = read(artifact::CONFIG)?;
        let sha256 = sha256(format!("{}{}", sha256(&config), sha256(&read(artifact::MODEL)?)).as_bytes());
        let about = serde_json::from_slice(&config).map_err(|error| CompareError::Keys {
            name: name.into(),
            problem: format!("{} is no explainer's: {error}", folder.join(artifact::CONFIG).display()),
        })?;
        Ok(Self { folder, run, about, sha256 })
    }
}
