//! The artifact of BEE: mixtures and training images in place of a head.
//!
//! The four files are those of [`super`]. `model.safetensors` holds the mixtures, in the layout of [`Mixtures`], and
//! `references` `[M,3,H,W]`, the training images that the family `train-data` draws from, in 0..1.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::card::{place, sheet};
use super::config::{BackboneMatch, BackboneRecord, SCHEMA_VERSION, check_preprocessing};
use super::front_matter::{FrontMatter, Published};
use super::{ArtifactError, CARD, CONFIG, MODEL, RUN, files, sha256};
use crate::backbone::BackboneSpec;
use crate::explainer::bee::{Mixtures, RewardMetric};
use crate::image::Preprocessing;

/// `method` in the `config.json` of a BEE explainer.
pub const METHOD: &str = "bee";
/// Largest `config.json` that is read, in bytes.
const MAX_BYTES: u64 = 10 << 20;
/// The tensor of training images.
const REFERENCES: &str = "references";

/// `config.json` of a BEE explainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeeConfig {
    /// Format of this file, [`SCHEMA_VERSION`].
    pub schema_version: u64,
    /// The program that wrote it, such as `explainer-zoo 0.1.0`.
    pub created_with: String,
    /// SHA-256 of `model.safetensors`, set by [`BeeArtifact::save`]. Without one any file that fits is accepted.
    pub model_sha256: Option<String>,
    /// [`METHOD`].
    pub method: String,
    /// The classifier that is explained.
    pub backbone: BackboneRecord,
    /// Its number of classes.
    pub classes: usize,
    /// Names of the classes by index, where known.
    pub class_names: Option<Vec<String>>,
    /// The classifier that the context is taken from; none where it is the explained one.
    pub context: Option<BackboneRecord>,
    /// Where the paths run: taps of the backbone, or `image`.
    pub sites: Vec<String>,
    /// Steps of a path.
    pub steps: usize,
    /// Draws of an explanation, unless the user gives another number.
    pub draws: usize,
    /// Steps of the curves of `INS` and `DEL`.
    pub curve_steps: usize,
    /// Metrics that there are mixtures for.
    pub metrics: Vec<RewardMetric>,
    /// Seed of what is drawn to explain.
    pub seed: u64,
    /// How photographs become the backbone's input, in training and in use.
    pub preprocessing: Preprocessing,
    /// Figures of the training by name.
    pub figures: BTreeMap<String, f64>,
}

/// A trained BEE explainer and all that is known of it.
#[derive(Clone, Debug)]
pub struct BeeArtifact {
    /// What it is and where it belongs.
    pub config: BeeConfig,
    /// What was learned.
    pub mixtures: Mixtures,
    /// Training images `[M,3,H,W]` in 0..1.
    pub references: Tensor<4>,
}

/// Whether the artifact in `folder` is a BEE explainer's, going by its `method` alone.
#[must_use]
pub fn is_bee(folder: &Path) -> bool {
    #[derive(Deserialize)]
    struct Method {
        method: String,
    }
    let method = read_bytes(&folder.join(CONFIG)).ok().and_then(|bytes| serde_json::from_slice::<Method>(&bytes).ok());
    method.is_some_and(|found| found.method == METHOD)
}

impl BeeConfig {
    /// The configuration of BEE on a backbone whose weights the user named `weights`, at `sites` in square images of
    /// the backbone's own preprocessing: 4 steps, 100 draws, 224 steps of a curve, as in the papers. Set optional
    /// fields afterwards.
    pub fn new(backbone: &BackboneSpec, weights: &str, sites: Vec<String>, metrics: Vec<RewardMetric>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            created_with: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
            model_sha256: None,
            method: METHOD.into(),
            backbone: BackboneRecord::new(backbone, weights),
            classes: backbone.classes,
            class_names: None,
            context: None,
            sites,
            steps: 4,
            draws: 100,
            curve_steps: 224,
            metrics,
            seed: 0,
            preprocessing: backbone.preprocessing.clone(),
            figures: BTreeMap::new(),
        }
    }

    /// Forward passes for an explanation with this number of draws (backward passes: the same number); scoring passes are
    /// not counted.
    pub fn passes(&self, draws: usize) -> usize {
        draws.saturating_mul(self.steps).saturating_mul(self.sites.len())
    }

    /// Checks every value that something is allocated or computed from, and that the parts agree.
    ///
    /// # Errors
    /// [`ArtifactError::Value`] for the first that is wrong.
    pub fn check(&self) -> Result<(), ArtifactError> {
        let wrong =
            |key, found: String, expected: &str| Err(ArtifactError::Value { key, found, expected: expected.into() });
        if self.method != METHOD {
            return wrong("method", self.method.clone(), METHOD);
        }
        if self.sites.is_empty() {
            return wrong("sites", "an empty list".into(), "names of taps, or `image`");
        }
        for (key, value, most) in [
            ("steps", self.steps, 10_000),
            ("draws", self.draws, 1_000_000),
            ("curve_steps", self.curve_steps, 1 << 24),
        ] {
            if !(1..=most).contains(&value) {
                return wrong(key, value.to_string(), &format!("1 to {most}"));
            }
        }
        if let Some(names) = &self.class_names
            && names.len() != self.classes
        {
            let expected = format!("{}, one for each of `classes`", self.classes);
            return wrong("class_names", format!("a list of {}", names.len()), &expected);
        }
        check_preprocessing(&self.preprocessing)?;
        if let Some((name, value)) = self.figures.iter().find(|(_, value)| !value.is_finite()) {
            return wrong("figures", format!("{name} = {value}"), "finite numbers; leave out what was not measured");
        }
        Ok(())
    }

    /// Checks that a backbone is the one this explainer was trained on, as
    /// [`ArtifactConfig::verify_backbone`](super::ArtifactConfig::verify_backbone) does.
    ///
    /// # Errors
    /// [`ArtifactError::Backbone`] with every difference.
    pub fn verify_backbone(&self, found: &BackboneSpec) -> Result<BackboneMatch, ArtifactError> {
        self.backbone.verify(found, self.classes, std::iter::empty()).map_err(ArtifactError::Backbone)
    }

    /// Checks that a backbone is the one whose features the mixtures were learned with. An explainer without a context
    /// of its own fits to any.
    ///
    /// # Errors
    /// [`ArtifactError::Context`] with every difference.
    pub fn verify_context(&self, found: &BackboneSpec) -> Result<BackboneMatch, ArtifactError> {
        let Some(record) = &self.context else { return Ok(BackboneMatch::Verified) };
        record.verify(found, found.classes, std::iter::empty()).map_err(ArtifactError::Context)
    }
}

impl BeeArtifact {
    /// Writes the artifact into `folder` as [`Artifact::save`](super::Artifact::save) does, with `train_yaml` as the run
    /// it came from.
    ///
    /// # Errors
    /// [`ArtifactError::Value`], [`ArtifactError::Bee`] and [`ArtifactError::Tensor`] for an artifact that could not be
    /// loaded again, [`ArtifactError::Write`].
    pub fn save(&self, folder: &Path, train_yaml: &str) -> Result<(), ArtifactError> {
        self.config.check()?;
        self.agree()?;
        let shape = self.references.dims();
        let values: Vec<f32> = self.references.to_data().iter::<f32>().collect();
        check_references("the explainer to be saved", &shape, &values, &self.config)?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let model = self.mixtures.to_bytes_with(vec![(REFERENCES.into(), Dtype::F32, shape.to_vec(), bytes)])?;
        let config = BeeConfig { model_sha256: Some(sha256(&model)), ..self.config.clone() };
        let mut json = serde_json::to_string_pretty(&config)
            .map_err(|e| ArtifactError::Write { path: folder.join(CONFIG), source: e.into() })?;
        json.push('\n');
        let card = card(&config, None);
        let all: [(&str, &[u8]); 4] =
            [(MODEL, &model), (CARD, card.as_bytes()), (RUN, train_yaml.as_bytes()), (CONFIG, json.as_bytes())];
        files::replace(folder, &all)
    }

    /// Reads the artifact in `folder`, its images onto `device`. Everything is checked; whether the backbone fits is
    /// [`BeeConfig::verify_backbone`]'s to say.
    ///
    /// # Errors
    /// [`ArtifactError::Read`], [`ArtifactError::Schema`], [`ArtifactError::Config`], [`ArtifactError::Value`],
    /// [`ArtifactError::Bee`], [`ArtifactError::Tensor`], [`ArtifactError::Hash`].
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ArtifactError> {
        let config = read_config(&folder.join(CONFIG))?;
        let path = folder.join(MODEL);
        let bytes = fs::read(&path).map_err(ArtifactError::read(&path))?;
        let origin = path.display().to_string();
        let mixtures = Mixtures::from_bytes(&bytes, &origin)?;
        let (shape, values) = references(&bytes).map_err(|reason| {
            let reason = format!("{REFERENCES}: {reason}");
            crate::explainer::bee::BeeError::State { origin: origin.clone(), reason }
        })?;
        check_references(&origin, &shape, &values, &config)?;
        if let Some(expected) = &config.model_sha256 {
            let found = sha256(&bytes);
            if !found.eq_ignore_ascii_case(expected) {
                return Err(ArtifactError::Hash { path, found, expected: expected.clone() });
            }
        }
        let references = Tensor::from_data(TensorData::new(values, shape), device);
        let artifact = Self { config, mixtures, references };
        artifact.agree()?;
        Ok(artifact)
    }

    /// Refuses mixtures for other metrics than those that the configuration names.
    fn agree(&self) -> Result<(), ArtifactError> {
        let found = self.mixtures.metrics();
        match found == self.config.metrics {
            true => Ok(()),
            false => Err(ArtifactError::Value {
                key: "metrics",
                found: format!("{:?}", self.config.metrics),
                expected: format!("those of the mixtures, {found:?}"),
            }),
        }
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ArtifactError::read(path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(ArtifactError::read(path))?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(ArtifactError::Config { path: path.into(), reason: format!("it has more than {MAX_BYTES} bytes") }),
        false => Ok(bytes),
    }
}

fn read_config(path: &Path) -> Result<BeeConfig, ArtifactError> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u64,
    }
    let wrong = |e: serde_json::Error| ArtifactError::Config { path: path.into(), reason: e.to_string() };
    let bytes = read_bytes(path)?;
    let Version { schema_version: found } = serde_json::from_slice(&bytes).map_err(wrong)?;
    if found != SCHEMA_VERSION {
        return Err(ArtifactError::Schema { path: path.into(), found, supported: SCHEMA_VERSION });
    }
    let config: BeeConfig = serde_json::from_slice(&bytes).map_err(wrong)?;
    config.check()?;
    Ok(config)
}

/// Shape and values of the training images.
fn references(bytes: &[u8]) -> Result<([usize; 4], Vec<f32>), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = file.tensor(REFERENCES).map_err(|error| error.to_string())?;
    let shape: Result<[usize; 4], _> = tensor.shape().try_into();
    let (Ok(shape), Dtype::F32) = (shape, tensor.dtype()) else {
        return Err(format!("found {:?} of {:?}, expected four axes of F32", tensor.dtype(), tensor.shape()));
    };
    let (values, _) = tensor.data().as_chunks::<4>();
    Ok((shape, values.iter().copied().map(f32::from_le_bytes).collect()))
}

fn check_references(origin: &str, shape: &[usize; 4], values: &[f32], config: &BeeConfig) -> Result<(), ArtifactError> {
    let side = config.preprocessing.crop;
    if !matches!(shape, [count, 3, height, width] if *count > 0 && [*height, *width] == [side; 2]) {
        let expected = format!("[M, 3, {side}, {side}], M at least 1");
        return Err(ArtifactError::Value { key: REFERENCES, found: format!("{shape:?}"), expected });
    }
    let count = values.iter().filter(|v| !(0.0..=1.0).contains(*v)).count();
    if count > 0 {
        let (origin, tensor) = (origin.into(), REFERENCES.into());
        return Err(ArtifactError::Tensor { origin, tensor, count, problem: "outside 0..1" });
    }
    Ok(())
}

/// Of the explainer with this `config.json`: the front matter once it is published, the card as it was saved, the card
/// once it is published.
pub(super) fn cards(config: &Path, published: &Published<'_>) -> Result<[String; 3], ArtifactError> {
    let config = read_config(config)?;
    Ok([front_matter(&config, Some(published)), card(&config, None), card(&config, Some(published))])
}

fn front_matter(config: &BeeConfig, published: Option<&Published<'_>>) -> String {
    let BeeConfig { backbone, figures, .. } = config;
    let title = format!("BEE for {}", backbone.name);
    FrontMatter { title, method: METHOD, weights: &backbone.weights, figures }.text(published)
}

/// The model card.
fn card(config: &BeeConfig, published: Option<&Published<'_>>) -> String {
    let BeeConfig { backbone, sites, steps, draws, .. } = config;
    let metrics: Vec<&str> = config.metrics.iter().map(|metric| metric.name()).collect();
    let context = config.context.as_ref().map_or("the classifier itself", |record| &record.name);
    let sha256 = backbone.sha256.as_deref().unwrap_or("not recorded");
    let figures: String = config.figures.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!(
        "{front}\n# BEE for {name}\n\n\
         Baseline Exploration-Exploitation (Barkan et al., AAAI 2025): path integrals from random baselines, whose \
         distribution was learned for each metric by a contextual bandit. Metrics: {metrics}.\n\n\
         | | |\n|---|---|\n| classifier | {name}, weights SHA-256 {sha256} |\n| context | {context} |\n\
         | paths | {steps} steps at {sites} |\n\
         | an explanation | {draws} draws: {passes} forward and as many backward passes, and the metric's for each draw |\n\
         {figures}\n\
         `{MODEL}` holds for each metric, by its name, `theta`, and of each arm (normal, uniform, blur, constant, \
         train-data) `mean` and `precision`; `{REFERENCES}` are training images. The whole run is in `{RUN}`.\n\n\
         ```sh\nexplainer-train explain {place} photo.jpg --metric {first} --draws {draws}\n```\n{sheet}",
        front = front_matter(config, published),
        place = published.map_or_else(|| ".".to_owned(), |_| place(published)),
        sheet = sheet(published),
        name = backbone.name,
        metrics = metrics.join(", "),
        sites = sites.join(", "),
        passes = config.passes(*draws),
        first = metrics.first().unwrap_or(&"INS"),
    )
}

#[cfg(test)]
mod tests;
