//! `explainer-train inspect`: what a file or a backbone holds.

use super::{BadUsage, Global, bee, print, shared};
use crate::report::progress::with_download_bar;
use crate::report::table::Table;
use anyhow::Context;
use clap::{ArgGroup, Args};
use explainer_zoo::artifact::bee::{BeeArtifact, is_bee};
use explainer_zoo::artifact::{Artifact, ArtifactConfig, AuxiliaryRecord, CONFIG};
use explainer_zoo::backbone::{self, BackboneError, TapSpec, torchscript};
use explainer_zoo::image::{Filter, Preprocessing};
use explainer_zoo::weights::source::Progress;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Show what an artifact, a checkpoint or a backbone holds
///
/// For an artifact: method, backbone, taps, parameters, passes per explanation and training figures; for BEE the mixture of
/// baselines of each metric, with its uncertainty. For a checkpoint: the state of the run. For a backbone: its taps with
/// their shapes, its preprocessing and its classes.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "\
Examples:
  explainer-train inspect checkpoints/quickstart/artifact
  explainer-train inspect --backbone vit_b_16"
)]
pub struct InspectArgs {
    /// Artifact, output folder of a run, or checkpoint; or an explainer as `hf://owner/name[@revision]` or `zoo:NAME`
    #[arg(value_name = "ARTIFACT|CHECKPOINT", group = "what")]
    pub path: Option<PathBuf>,
    /// Show the probabilities of BEE's mixture for this image instead of the mean over training images
    #[arg(long, value_name = "FILE", requires = "path")]
    pub image: Option<PathBuf>,
    /// Name of a backbone
    #[arg(long, value_name = "NAME", group = "what")]
    pub backbone: Option<String>,
    /// Weights of the backbone, as `backbone.weights` in a configuration; without them only shapes are shown
    #[arg(long, value_name = "SOURCE", requires = "backbone", conflicts_with = "path")]
    pub weights: Option<String>,
}

/// File of a checkpoint that holds the state of the run.
const STATE: &str = "state.json";

/// Inspects.
pub(super) fn run(args: &InspectArgs, global: &Global) -> anyhow::Result<()> {
    let found = args.path.as_deref().map(|path| shared::find(path, global)).transpose()?;
    if let Some(found) = found.as_ref().filter(|_| args.image.is_some()) {
        found.trusted(&[("backbone", "explain --weights", false), ("context", "explain --context-weights", false)])?;
    }
    let text = match (found.as_ref().map(|found| &found.folder), &args.backbone) {
        (Some(path), _) if is_bee(path) => {
            let config = BeeArtifact::load(path, &shared::compute(global)?.device)?.config;
            let mut about = bee::facts(&config);
            about.extend(preprocessing(&config.preprocessing));
            format!("{}\n{}", rows(&about), bee::mixtures(path, args.image.as_deref(), global)?)
        }
        (Some(path), _) if args.image.is_some() => {
            let message = "--image: only BEE explainers use the context of an image, which";
            return Err(BadUsage(format!("{message} {} is not; leave it out", path.display())).into());
        }
        (Some(path), _) if path.join(CONFIG).is_file() => {
            rows(&artifact(&Artifact::load(path, &shared::compute(global)?.device)?.config))
        }
        (Some(path), _) if path.join(STATE).is_file() => checkpoint(&path.join(STATE))?,
        (Some(path), _) => anyhow::bail!(
            "{}: found neither {CONFIG} (of an artifact) nor {STATE} (of a checkpoint); \
             give the folder artifact/ or step-.../ of a run's output",
            path.display()
        ),
        (None, Some(name)) => backbone(name, args.weights.as_deref(), global)?,
        (None, None) => return Err(BadUsage("give a folder, or --backbone NAME".into()).into()),
    };
    print(&text)
}

/// A key and its value.
type Row = (String, String);

/// Lines of keys and aligned values.
fn rows(rows: &[Row]) -> String {
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    // Texts of a downloaded artifact may contain control characters, which a terminal would execute.
    let plain = |text: &str| text.replace(char::is_control, " ");
    let line = |(key, value): &Row| format!("{:<width$}  {}", plain(key), plain(value)).trim_end().to_owned() + "\n";
    rows.iter().map(line).collect()
}

fn row(key: &str, value: impl ToString) -> Row {
    (key.to_owned(), value.to_string())
}

/// An artifact as pairs of key and value.
fn artifact(config: &ArtifactConfig) -> Vec<Row> {
    let (head, record) = (&config.head, &config.backbone);
    let taps = config.taps.iter().zip(head.channels()).map(|(tap, channels)| format!("{tap} ({channels} channels)"));
    let trained = head.tensors().into_iter().filter(|(name, _)| !name.contains("running_"));
    let parameters: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let named = if config.class_names.is_some() { "named in the artifact" } else { "without names" };
    let [height, width] = head.map_size();
    let mut rows = vec![
        row("method", format!("{} ({})", config.method, config.method.title())),
        row("backbone", &record.name),
        row("weights", &record.weights),
        row("weights SHA-256", record.sha256.as_deref().unwrap_or("not recorded")),
    ];
    if let Some(AuxiliaryRecord { backbone, classes, mean, std }) = &config.auxiliary {
        rows.extend([
            row("auxiliary", format!("{}, {classes} classes", backbone.name)),
            row("auxiliary weights", &backbone.weights),
            row("auxiliary SHA-256", backbone.sha256.as_deref().unwrap_or("not recorded")),
            row("auxiliary mean", format!("{mean:?}")),
            row("auxiliary std", format!("{std:?}")),
        ]);
    }
    rows.extend([
        row("taps", taps.collect::<Vec<_>>().join(", ")),
        row("classes", format!("{}, {named}", head.classes())),
        row("map size", format!("{height} x {width}")),
        row("parameters", parameters),
        row("passes", format!("{} for an explanation", config.passes)),
        row("masking", &config.masking),
    ]);
    rows.extend(preprocessing(&config.preprocessing));
    rows.extend(config.figures.iter().map(|(name, value)| row(name, value)));
    rows.push(row("written by", &config.created_with));
    rows.extend(config.imported_from.iter().map(|file| row("imported from", file)));
    rows
}

fn preprocessing(preprocessing: &Preprocessing) -> Vec<Row> {
    let Preprocessing { resize, crop, filter, mean, std } = preprocessing;
    let filter = match filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
    };
    vec![
        row("resize", format!("short side to {resize} pixels, {filter}")),
        row("crop", format!("{crop} x {crop} pixels")),
        row("mean", format!("{mean:?}")),
        row("std", format!("{std:?}")),
    ]
}

/// The state of a checkpoint, as lines of keys and values.
fn checkpoint(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let state: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a checkpoint's state; resume from an earlier one", path.display()))?;
    let mut found = Vec::new();
    flatten(String::new(), &state, &mut found);
    Ok(rows(&found))
}

/// One row per value; nested objects become `outer.inner`, lists stay as they are.
fn flatten(key: String, value: &Value, rows: &mut Vec<Row>) {
    match value {
        Value::Object(inner) => {
            let dot = if key.is_empty() { "" } else { "." };
            inner.iter().for_each(|(name, value)| flatten(format!("{key}{dot}{name}"), value, rows));
        }
        Value::String(text) => rows.push((key, text.clone())),
        other => rows.push((key, other.to_string())),
    }
}

/// Taps and preprocessing of an architecture; with weights also what depends on them.
fn backbone(name: &str, weights: Option<&str>, global: &Global) -> anyhow::Result<String> {
    let architecture = backbone::architecture(name);
    if architecture.is_none() && name != torchscript::NAME {
        return Err(BadUsage(BackboneError::unknown(name).to_string()).into());
    }
    let mut about = vec![row("backbone", name)];
    let Some(weights) = weights else {
        let Some(known) = architecture else {
            return Err(BadUsage("--backbone torchscript: give the file with --weights".into()).into());
        };
        about.extend(preprocessing(&known.preprocessing));
        let own = |taps: &[&str]| taps.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (defaults, auxiliary) = (own(known.default_taps), known.auxiliary_taps.map(own));
        let side = known.preprocessing.crop;
        return Ok(format!("{}\n{}", rows(&about), taps(&known.taps, &defaults, auxiliary.as_deref(), side)));
    };
    let compute = shared::compute(global)?;
    let load = |progress: &mut Progress<'_>| backbone::open(name, weights, None, None, &compute, progress);
    let loaded = with_download_bar(global.quiet, load)?;
    let spec = loaded.spec();
    about.push(row("weights", weights));
    about.push(row("weights SHA-256", spec.weights_sha256.as_deref().unwrap_or("none, they come from no file")));
    about.push(row("classes", spec.classes));
    about.extend(preprocessing(&spec.preprocessing));
    let auxiliary = Some(&spec.auxiliary_taps[..]).filter(|taps| *taps != spec.default_taps);
    let taps = taps(&spec.taps, &spec.default_taps, auxiliary, spec.preprocessing.crop);
    Ok(format!("{}\n{taps}", rows(&about)))
}

/// The table of taps; `*` marks the default ones.
fn taps(taps: &[TapSpec], defaults: &[String], auxiliary: Option<&[String]>, side: usize) -> String {
    let mut table = Table::new(["tap", "channels", "stride", "grid", "kind"]);
    for tap in taps {
        let chosen = if defaults.contains(&tap.name) { "*" } else { " " };
        let grid = tap.grid(side);
        let kind = match tap.prefix_tokens {
            None => "map".to_owned(),
            Some(prefix) => format!("tokens, {prefix} before the patches"),
        };
        let name = format!("{chosen} {}", tap.name);
        table.row([name, tap.channels.to_string(), tap.stride.to_string(), format!("{grid} x {grid}"), kind]);
    }
    let auxiliary = auxiliary.map(|taps| format!(", as P-TAME's auxiliary {}", taps.join(", ")));
    format!(
        "{}\n* taken by default{}; the grid is that of images of {side} x {side} pixels\n",
        table.text(),
        auxiliary.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(path: Option<&Path>, backbone: Option<&str>) -> anyhow::Result<()> {
        let (path, backbone) = (path.map(Path::to_path_buf), backbone.map(str::to_owned));
        run(&InspectArgs { path, image: None, backbone, weights: None }, &Global::default())
    }

    #[test]
    fn values_are_aligned() {
        assert_eq!(rows(&[row("a", 1), row("longer", "x y"), row("none", "")]), "a       1\nlonger  x y\nnone\n");
        assert_eq!(rows(&[row("a", "x\u{1b}[2J")]), "a  x [2J\n");
    }

    #[test]
    fn a_state_becomes_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATE);
        fs::write(&path, r#"{"epoch": 2, "best": {"AD(50)": 1.5, "at": null}, "seen": [1, 2], "run": "a b"}"#).unwrap();
        let text = checkpoint(&path).unwrap();
        for (key, value) in
            [("epoch", "2"), ("best.AD(50)", "1.5"), ("best.at", "null"), ("seen", "[1,2]"), ("run", "a b")]
        {
            let line = format!("{key:<11}  {value}");
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
        inspected(Some(folder.path()), None).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(checkpoint(&path).unwrap_err().to_string().contains("state.json is not a checkpoint's state"));
    }

    #[test]
    fn what_is_neither_is_refused_with_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let message = inspected(Some(folder.path()), None).unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains("state.json"), "{message}");
        let error = inspected(None, Some("resnet51")).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().contains("resnet50"), "{error}");
        let error = inspected(None, Some("torchscript")).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().contains("--weights"), "{error}");
    }

    #[test]
    fn every_backbone_can_be_shown_without_weights() {
        for name in backbone::names() {
            let text = backbone(name, None, &Global::default()).unwrap();
            let defaults = backbone::architecture(name).unwrap().default_taps;
            assert_eq!(text.lines().filter(|line| line.starts_with("* ")).count(), defaults.len() + 1, "{text}");
        }
    }
}
