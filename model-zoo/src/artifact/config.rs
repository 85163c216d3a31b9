//! `config.json`: what an explainer is, which backbone it belongs to, how it was trained.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{ArtifactError, Difference};
use crate::backbone::{BackboneSpec, TapSpec};
use crate::explainer::{AnyHeadConfig, Method};
use crate::head::MAX_SIDE;
use crate::image::Preprocessing;

/// The format of `config.json` that this crate writes and reads.
pub const SCHEMA_VERSION: u64 = 1;
/// Largest `config.json` that is read, in bytes: room for 100,000 class names of 100 bytes.
const MAX_BYTES: u64 = 10 << 20;

/// Everything of an artifact but its tensors, as `config.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactConfig {
    /// Format of this file, [`SCHEMA_VERSION`].
    pub schema_version: u64,
    /// The program that wrote it, such as `explainer-zoo 0.1.0`.
    pub created_with: String,
    /// The checkpoint's file name, if the head was trained by another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
    /// SHA-256 of `model.safetensors`, set by [`super::Artifact::save`], by which tensors and configuration are known
    /// to belong together. Without one any file that fits is accepted.
    pub model_sha256: Option<String>,
    /// The method.
    pub method: Method,
    /// Shape of the explainer: channels of the taps, classes, size of the maps.
    pub head: AnyHeadConfig,
    /// The classifier that is explained.
    pub backbone: BackboneRecord,
    /// The second classifier, if the head reads its feature maps (P-TAME).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<AuxiliaryRecord>,
    /// The taps that the head reads, in its order: the auxiliary's if there is one, otherwise the backbone's.
    pub taps: Vec<String>,
    /// Names of the classes by index, where known.
    pub class_names: Option<Vec<String>>,
    /// How photographs become the backbone's input, in training and in use.
    pub preprocessing: Preprocessing,
    /// The masking procedure of the training: `after-norm`, `before-norm`, `blur` or `mean`;
    /// `feature` where the map multiplied the feature map (L-CAM-Fm), `infill` where blur and colours took the place of
    /// what the mask left out (the masking model).
    pub masking: String,
    /// What one explanation costs.
    pub passes: RecordedCost,
    /// Figures of the training by name: `AD(50)` in percent, `steps`, `images` and so on.
    pub figures: BTreeMap<String, f64>,
}

/// The classifier that an explainer was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneRecord {
    /// Its name in the registry.
    pub name: String,
    /// Where its weights came from, as the user gave it: a path, `hf://...` or `https://...`.
    pub weights: String,
    /// SHA-256 of the file of weights; `None` where there was no file (weights drawn at random).
    pub sha256: Option<String>,
}

/// The second classifier, whose feature maps the head reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuxiliaryRecord {
    /// Which one.
    #[serde(flatten)]
    pub backbone: BackboneRecord,
    /// Its number of classes, which need not be the explained classifier's.
    pub classes: usize,
    /// Mean of each channel that it was trained with, for values in 0..=1. Its images have the explained classifier's
    /// size and crop.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, likewise.
    pub std: [f32; 3],
}

/// Passes through frozen classifiers for the explanation of one image, whatever the number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCost {
    /// Forward passes of the backbone. With an auxiliary its only purpose is to choose the class.
    pub forward: u32,
    /// Backward passes of the backbone.
    pub backward: u32,
    /// Forward passes of the auxiliary.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub auxiliary_forward: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl fmt::Display for RecordedCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forward, backward, auxiliary_forward } = self;
        write!(f, "{forward} forward and {backward} backward passes of the backbone")?;
        match auxiliary_forward {
            0 => Ok(()),
            1 => f.write_str(" (to choose the class), 1 forward pass of the auxiliary"),
            more => write!(f, " (to choose the class), {more} forward passes of the auxiliary"),
        }
    }
}

/// How surely a backbone is the one that an explainer was trained on.
#[must_use = "an unverified backbone is worth a warning"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackboneMatch {
    /// Name, taps, classes and the weights' SHA-256 are the same.
    Verified,
    /// Name, taps and classes are the same. The weights cannot be compared; the text names the reason, for a warning.
    Unverified(String),
}

impl ArtifactConfig {
    /// The configuration of a head with these `taps` on a backbone whose weights the user named `weights`. Masking is
    /// `before-norm`, class names and figures are empty: set them where they are known.
    pub fn new(
        method: Method,
        head: impl Into<AnyHeadConfig>,
        taps: Vec<String>,
        backbone: &BackboneSpec,
        weights: &str,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            created_with: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
            imported_from: None,
            model_sha256: None,
            method,
            head: head.into(),
            backbone: BackboneRecord::new(backbone, weights),
            taps,
            class_names: None,
            preprocessing: backbone.preprocessing.clone(),
            masking: "before-norm".into(),
            auxiliary: None,
            passes: RecordedCost { forward: 1, backward: 0, auxiliary_forward: 0 },
            figures: BTreeMap::new(),
        }
    }

    /// The same for a head that reads the `taps` of the classifier `auxiliary`, whose weights the user named
    /// `weights`.
    #[must_use]
    pub fn with_auxiliary(mut self, auxiliary: &BackboneSpec, weights: &str) -> Self {
        self.auxiliary = Some(AuxiliaryRecord {
            backbone: BackboneRecord::new(auxiliary, weights),
            classes: auxiliary.classes,
            mean: auxiliary.preprocessing.mean,
            std: auxiliary.preprocessing.std,
        });
        self.passes.auxiliary_forward = 1;
        self
    }

    /// Reads a `config.json`. The version is checked first: a newer format may have other keys.
    ///
    /// # Errors
    /// [`ArtifactError::Read`], [`ArtifactError::Schema`], [`ArtifactError::Config`], [`ArtifactError::Value`].
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        let wrong = |reason: String| ArtifactError::Config { path: path.into(), reason };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(ArtifactError::read(path))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(ArtifactError::read(path))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
        }
        let Version { schema_version } = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if schema_version != SCHEMA_VERSION {
            let path = path.into();
            return Err(ArtifactError::Schema { path, found: schema_version, supported: SCHEMA_VERSION });
        }
        let config: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let known = serde_json::to_value(&config).map_err(|e| wrong(e.to_string()))?;
        let given = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let unknown = unknown_keys("", &given, &known);
        if !unknown.is_empty() {
            return Err(wrong(format!("unknown keys: {}; correct or remove them", unknown.join(", "))));
        }
        config.check()?;
        Ok(config)
    }

    /// Checks every value that something is allocated or computed from, and that the parts agree.
    ///
    /// # Errors
    /// [`ArtifactError::Value`] for the first that is wrong.
    pub fn check(&self) -> Result<(), ArtifactError> {
        let wrong =
            |key, found: String, expected: &str| Err(ArtifactError::Value { key, found, expected: expected.into() });
        self.head.check()?;
        if !self.method.has_head(&self.head) {
            return wrong("method", self.method.to_string(), "the method whose head this is");
        }
        let channels = self.head.channels().len();
        if self.taps.len() != channels {
            let expected = format!("{channels} names, one for each of head.channels");
            return wrong("taps", format!("{:?}", self.taps), &expected);
        }
        if let Some(names) = &self.class_names
            && names.len() != self.head.classes()
        {
            let expected = format!("{}, one for each of head.classes", self.head.classes());
            return wrong("class_names", format!("a list of {}", names.len()), &expected);
        }
        check_preprocessing(&self.preprocessing)?;
        match &self.auxiliary {
            Some(AuxiliaryRecord { mean, std, .. }) if !sound(mean, std) => {
                let found = format!("mean {mean:?}, std {std:?}");
                return wrong("auxiliary", found, "finite numbers, std above 0");
            }
            Some(found) if !self.method.requirements().auxiliary => {
                return wrong("auxiliary", found.backbone.name.clone(), &format!("none with method {}", self.method));
            }
            None if self.method.requirements().auxiliary => {
                return wrong("auxiliary", "not there".into(), &format!("a classifier with method {}", self.method));
            }
            _ => {}
        }
        if let Some((name, value)) = self.figures.iter().find(|(_, value)| !value.is_finite()) {
            return wrong("figures", format!("{name} = {value}"), "finite numbers; leave out what was not measured");
        }
        Ok(())
    }

    /// Checks that a backbone is the one this explainer was trained on: its name, the SHA-256 of its weights, the
    /// number of classes, and the channels of the taps unless they are an auxiliary's.
    ///
    /// Weights are compared by their SHA-256, not by their path, which has a meaning on one machine only. A
    /// backbone without one (weights drawn at random) has nothing to compare, and whether its maps mean anything only
    /// the caller can know; that is no error but [`BackboneMatch::Unverified`]. Preprocessing is not compared: the
    /// explainer's own is the one to use.
    ///
    /// # Errors
    /// [`ArtifactError::Backbone`] with every difference.
    pub fn verify_backbone(&self, found: &BackboneSpec) -> Result<BackboneMatch, ArtifactError> {
        let tapped = self.auxiliary.is_none();
        self.backbone
            .verify(found, self.head.classes(), self.tapped().filter(|_| tapped))
            .map_err(ArtifactError::Backbone)
    }

    /// As [`ArtifactConfig::verify_backbone`], for the auxiliary: its name, the SHA-256 of its weights, its number of
    /// classes, the channels and sides of its taps. An explainer without an auxiliary fits to any.
    ///
    /// # Errors
    /// [`ArtifactError::Auxiliary`] with every difference, [`ArtifactError::Shape`].
    pub fn verify_auxiliary(&self, found: &BackboneSpec) -> Result<BackboneMatch, ArtifactError> {
        let Some(record) = &self.auxiliary else { return Ok(BackboneMatch::Verified) };
        let matched = record.backbone.verify(found, record.classes, self.tapped()).map_err(ArtifactError::Auxiliary)?;
        let taps: Vec<TapSpec> = self.taps.iter().filter_map(|tap| found.tap(tap)).cloned().collect();
        self.head.check_taps(&taps, self.preprocessing.crop)?;
        Ok(matched)
    }

    /// How the pixels that `preprocessing` cuts out become the auxiliary's input; `None` without one.
    pub fn auxiliary_preprocessing(&self) -> Option<Preprocessing> {
        let AuxiliaryRecord { mean, std, .. } = *self.auxiliary.as_ref()?;
        Some(Preprocessing { mean, std, ..self.preprocessing.clone() })
    }

    /// The taps and their channels.
    fn tapped(&self) -> impl Iterator<Item = (&String, &usize)> {
        self.taps.iter().zip(self.head.channels())
    }
}

impl BackboneRecord {
    /// The record of a backbone whose weights the user named `weights`.
    pub fn new(backbone: &BackboneSpec, weights: &str) -> Self {
        let (name, sha256) = (backbone.name.clone(), backbone.weights_sha256.clone());
        Self { name, weights: weights.into(), sha256 }
    }

    /// Compares `found` with this record: its name, its number of classes, the channels of its taps, and the SHA-256 of its
    /// weights.
    pub(super) fn verify<'a>(
        &self,
        found: &BackboneSpec,
        classes: usize,
        taps: impl Iterator<Item = (&'a String, &'a usize)>,
    ) -> Result<BackboneMatch, Vec<Difference>> {
        let mut differences = Vec::new();
        let mut compare = |what: String, found: String, expected: String| {
            if found != expected {
                differences.push(Difference { what, found, expected });
            }
        };
        compare("name".into(), found.name.clone(), self.name.clone());
        compare("classes".into(), found.classes.to_string(), classes.to_string());
        for (tap, channels) in taps {
            let seen = found.tap(tap).map_or("no such tap".into(), |spec| spec.channels.to_string());
            compare(format!("channels of tap {tap}"), seen, channels.to_string());
        }
        if let (Some(found), Some(expected)) = (&found.weights_sha256, &self.sha256) {
            compare("weights SHA-256".into(), found.to_ascii_lowercase(), expected.to_ascii_lowercase());
        }
        if !differences.is_empty() {
            return Err(differences);
        }
        let missing = match (&found.weights_sha256, &self.sha256) {
            (Some(_), Some(_)) => return Ok(BackboneMatch::Verified),
            (None, Some(_)) => "the backbone's weights come from no file",
            (Some(_), None) => "the explainer does not record which weights it was trained on",
            (None, None) => "neither the explainer nor the backbone has the SHA-256 of a file",
        };
        Ok(BackboneMatch::Unverified(format!(
            "cannot tell whether {} has the weights this explainer was trained on ({}): {missing}",
            self.name, self.weights
        )))
    }
}

/// Whether a mean and a standard deviation are such.
fn sound(mean: &[f32; 3], std: &[f32; 3]) -> bool {
    mean.iter().chain(std).all(|v| v.is_finite()) && std.iter().all(|v| *v > 0.0)
}

/// Checks sizes, mean and standard deviation.
pub(super) fn check_preprocessing(preprocessing: &Preprocessing) -> Result<(), ArtifactError> {
    let wrong = |found: String, expected: &str| {
        Err(ArtifactError::Value { key: "preprocessing", found, expected: expected.into() })
    };
    let Preprocessing { resize, crop, mean, std, .. } = preprocessing;
    if *crop == 0 || crop > resize || *resize > MAX_SIDE {
        return wrong(format!("resize {resize}, crop {crop}"), &format!("1 <= crop <= resize <= {MAX_SIDE} pixels"));
    }
    match sound(mean, std) {
        true => Ok(()),
        false => wrong(format!("mean {mean:?}, std {std:?}"), "finite numbers, std above 0"),
    }
}

/// Paths of the keys that `given` has and `known` lacks.
fn unknown_keys(at: &str, given: &Value, known: &Value) -> Vec<String> {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return Vec::new() };
    let below = |(key, value): (&String, &Value)| match known.get(key) {
        Some(known) => unknown_keys(&format!("{at}{key}."), value, known),
        None if value.is_null() => Vec::new(), // as good as left out
        None => vec![format!("{at}{key}")],
    };
    given.iter().flat_map(below).collect()
}
