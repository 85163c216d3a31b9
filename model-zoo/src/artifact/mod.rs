//! The format in which a trained explainer is published: a folder of
//!
//! | file | |
//! |---|---|
//! | `model.safetensors` | the head's tensors under PyTorch's names, f32 |
//! | `config.json` | [`ArtifactConfig`]: method, backbone, taps, classes, preprocessing, figures |
//! | `README.md` | the model card |
//! | `train.yaml` | the resolved run |
//!
//! A PyTorch program loads the tensors with `strict=True` into the module that the card shows. In Rust:
//!
//! ```no_run
#![doc = include_str!("usage.rs")]
//! ```
//!
//! BEE learns no head: what its folder holds is in [`bee`].
//!
//! P-TAME's head reads the feature maps of an auxiliary classifier; [`Explainer`](crate::Explainer) loads it as well.

pub mod bee;
mod card;
mod config;
mod error;
mod files;
mod front_matter;
pub mod lightning;
mod locate;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

pub use config::{ArtifactConfig, AuxiliaryRecord, BackboneMatch, BackboneRecord, RecordedCost, SCHEMA_VERSION};
pub use error::{ArtifactError, Difference};
pub(crate) use front_matter::Published;
pub use locate::locate;

use crate::explainer::AnyHead;
use crate::weights::WeightReader;
use crate::weights::hash::sha256;

/// File of tensors.
pub const MODEL: &str = "model.safetensors";
/// File of the configuration.
pub const CONFIG: &str = "config.json";
/// File of the model card.
pub const CARD: &str = "README.md";
/// File of the resolved run.
pub const RUN: &str = "train.yaml";

/// A trained explainer.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its configuration.
    pub config: ArtifactConfig,
    /// Its head.
    pub head: AnyHead,
}

impl Artifact {
    /// Writes the artifact into `folder`, over an older one if there is one, with `train_yaml` as the run it came from.
    ///
    /// A failure (disk full, no permission) leaves the older one as it was. `config.json` is renamed into place last and
    /// holds the SHA-256 of `model.safetensors`, so that after a crash between the renames [`Artifact::load`] refuses
    /// what does not belong together.
    ///
    /// # Errors
    /// [`ArtifactError::Value`] and [`ArtifactError::Tensor`] for an artifact that could not be loaded again,
    /// [`ArtifactError::Write`].
    pub fn save(&self, folder: &Path, train_yaml: &str) -> Result<(), ArtifactError> {
        if self.config.head != self.head.config() {
            return Err(ArtifactError::Value {
                key: "head",
                found: format!("{:?}", self.config.head),
                expected: format!("that of the network, {:?}", self.head.config()),
            });
        }
        self.config.check()?;
        let tensors = self.head.values();
        for (name, _, values) in &tensors {
            check_values("the head to be saved", name, values)?;
        }
        let model = serialise(&tensors).map_err(|reason| ArtifactError::Write {
            path: folder.join(MODEL),
            source: std::io::Error::other(reason),
        })?;
        let config = ArtifactConfig { model_sha256: Some(sha256(&model)), ..self.config.clone() };
        let mut json = serde_json::to_string_pretty(&config)
            .map_err(|e| ArtifactError::Write { path: folder.join(CONFIG), source: e.into() })?;
        json.push('\n');
        let card = card::card(&config, None);
        let files: [(&str, &[u8]); 4] =
            [(MODEL, &model), (CARD, card.as_bytes()), (RUN, train_yaml.as_bytes()), (CONFIG, json.as_bytes())];
        files::replace(folder, &files)
    }

    /// Reads the artifact in `folder`, its tensors onto `device`.
    ///
    /// Checked are the schema version, unknown keys, sizes (before anything is allocated by them), every tensor's name,
    /// shape and values, and that `model.safetensors` is the file that `config.json` was written with. Whether the
    /// backbone fits is [`ArtifactConfig::verify_backbone`]'s to say, and [`ArtifactConfig::verify_auxiliary`]'s.
    ///
    /// # Errors
    /// Any of [`ArtifactError`] but `Write`, `Backbone`, `Auxiliary`, `Shape` and `NoHead`.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ArtifactError> {
        if bee::is_bee(folder) {
            return Err(ArtifactError::OtherMethod { path: folder.join(CONFIG) });
        }
        let config = ArtifactConfig::read(&folder.join(CONFIG))?;
        let path = folder.join(MODEL);
        let mut reader = WeightReader::open(&path, device)?;
        let values = read_values(&mut reader, config.head.tensors());
        reader.finish(&format!("the {} head of {CONFIG}", config.method))?;
        let head = config.head.from_values(checked(values, &path)?, device);
        if let Some(expected) = &config.model_sha256 {
            let found = sha256(&fs::read(&path).map_err(ArtifactError::read(&path))?);
            if !found.eq_ignore_ascii_case(expected) {
                return Err(ArtifactError::Hash { path, found, expected: expected.clone() });
            }
        }
        Ok(Self { config, head })
    }
}

/// The model card of the artifact in `folder`, for publication. A text that was edited after the artifact was saved is
/// kept.
///
/// # Errors
/// [`ArtifactError::Read`], and those of the configuration.
pub(crate) fn published_card(folder: &Path, published: &Published<'_>) -> Result<String, ArtifactError> {
    let path = folder.join(CARD);
    let there = fs::read_to_string(&path).map_err(ArtifactError::read(&path))?.replace("\r\n", "\n");
    let config = folder.join(CONFIG);
    let [front, saved, new] = if bee::is_bee(folder) {
        bee::cards(&config, published)?
    } else {
        let config = ArtifactConfig::read(&config)?;
        let card = |published| card::card(&config, published);
        [card::front_matter(&config, Some(published)), card(None), card(Some(published))]
    };
    let text = front_matter::body(&there);
    if text == front_matter::body(&saved) { Ok(new) } else { Ok(front + text) }
}

/// Reads `tensors`; missing and misshaped ones are reported by the reader's `finish`.
fn read_values(reader: &mut WeightReader, tensors: Vec<(String, Vec<usize>)>) -> HashMap<String, Vec<f32>> {
    tensors
        .into_iter()
        .filter_map(|(name, shape)| Some((name.clone(), reader.fitting_values(&name, &shape)?)))
        .collect()
}

/// Tensors by name, with their values checked.
fn checked(
    values: HashMap<String, Vec<f32>>,
    path: &Path,
) -> Result<impl Fn(&str, &[usize]) -> Vec<f32>, ArtifactError> {
    let mut names: Vec<&String> = values.keys().collect();
    names.sort_unstable();
    for name in names {
        check_values(&path.display().to_string(), name, &values[name])?;
    }
    // Every name is there: `finish` has checked it.
    Ok(move |name: &str, shape: &[usize]| {
        values.get(name).cloned().unwrap_or_else(|| vec![0.0; shape.iter().product()])
    })
}

/// Refuses NaN, infinities and negative variances, each of which leads to maps of NaN.
fn check_values(origin: &str, tensor: &str, values: &[f32]) -> Result<(), ArtifactError> {
    let count = |wrong: fn(&f32) -> bool| values.iter().filter(|v| wrong(v)).count();
    let variance = tensor.ends_with("running_var");
    let (count, problem) = match (count(|v| !v.is_finite()), count(|v| *v < 0.0)) {
        (0, negative) if variance && negative > 0 => (negative, "negative variances"),
        (0, _) => return Ok(()),
        (broken, _) => (broken, "not finite"),
    };
    Err(ArtifactError::Tensor { origin: origin.into(), tensor: tensor.into(), count, problem })
}

/// The tensors as a safetensors file that PyTorch loads with `strict=True`: each batch normalisation also has PyTorch's
/// counter `num_batches_tracked`, which is unused and 0.
fn serialise(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<Vec<u8>, String> {
    let mut files: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, shape, values) in tensors {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        files.push((name.clone(), Dtype::F32, shape.clone(), bytes));
        if let Some(norm) = name.strip_suffix(".running_var") {
            let counter = 0i64.to_le_bytes().to_vec();
            files.push((format!("{norm}.num_batches_tracked"), Dtype::I64, Vec::new(), counter));
        }
    }
    let views = files
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    views.and_then(|views| safetensors::serialize(views, Some(metadata))).map_err(|e| e.to_string())
}
