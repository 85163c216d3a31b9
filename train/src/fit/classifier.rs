//! The frozen classifier of a configuration, the auxiliary if there is one, and the taps that a head reads.

use std::sync::Arc;

use explainer_zoo::artifact::ArtifactConfig;
use explainer_zoo::auxiliary::{Auxiliary, AuxiliaryError};
use explainer_zoo::backbone::{self, Backbone, BackboneError};
use explainer_zoo::classes;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::{AnyHeadConfig, Method};
use explainer_zoo::feature_extractor::FeatureExtractor;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::source::Progress;

use super::FitError;
use crate::config::{self, Config, Data};
use crate::report::progress::with_download_bar;

/// The classifier to explain, loaded and checked. No image is opened.
pub(super) struct ExplainedClassifier {
    pub extractor: FeatureExtractor,
    pub method: Method,
    /// Names of the classes: of `backbone.classes`, else ImageNet's where there are 1000.
    pub class_names: Option<Vec<String>>,
}

impl ExplainedClassifier {
    /// Loads the classifiers that `config` names.
    ///
    /// # Errors
    /// [`FitError`] if one cannot be loaded, or if the explainer cannot read its taps.
    pub fn load(config: &Config, compute: &Compute, quiet: bool) -> Result<Self, FitError> {
        let section = &config.backbone;
        let backbone = open_backbone(section, compute, quiet)?;
        let preprocessing = preprocessing(&config.data, backbone.as_ref())?;
        let auxiliary = match &config.auxiliary {
            None => None,
            Some(section) => {
                let (name, weights) = (&section.name, &section.weights);
                let sha256 = section.sha256.as_deref();
                let load = |progress: &mut Progress<'_>| backbone::open(name, weights, sha256, None, compute, progress);
                let second = with_download_bar(quiet, load).map_err(AuxiliaryError::from)?;
                let taps = section.taps.clone().unwrap_or_else(|| second.spec().auxiliary_taps.clone());
                let preprocessing = preprocessing.normalised_as(&second.spec().preprocessing);
                Some(Auxiliary::new(second, &taps, preprocessing)?)
            }
        };
        let spec = backbone.spec().clone();
        let method = config.explainer.method();
        let explainer = config.explainer.learned().ok_or(FitError::NoHead { method })?;
        let taps = section.taps.clone().unwrap_or_else(|| explainer.default_taps(&spec));
        let extractor = FeatureExtractor::new(backbone, preprocessing, &taps, auxiliary)?;
        if extractor.tap_specs().is_empty() {
            return Err(FitError::NoTaps { backbone: spec.name });
        }
        if method.requirements().replaces_taps && !extractor.backbone.can_replace_taps() {
            return Err(FitError::FixedTaps { backbone: spec.name, asks: format!("explainer.method {method}") });
        }
        let class_names = class_names(section, spec.classes)?;
        Ok(Self { extractor, method, class_names })
    }

    /// The artifact's configuration for a head of this shape; the caller adds its figures.
    pub fn artifact_config(&self, config: &Config, head: impl Into<AnyHeadConfig>) -> ArtifactConfig {
        let FeatureExtractor { backbone, preprocessing, auxiliary, .. } = &self.extractor;
        let taps = self.extractor.tap_specs().into_iter().map(|tap| tap.name).collect();
        let mut about = ArtifactConfig::new(self.method, head, taps, backbone.spec(), &config.backbone.weights);
        if let (Some(auxiliary), Some(section)) = (auxiliary, &config.auxiliary) {
            about = about.with_auxiliary(auxiliary.backbone.spec(), &section.weights);
        }
        about.preprocessing = preprocessing.clone();
        about.class_names.clone_from(&self.class_names);
        if let Some(explainer) = config.explainer.learned() {
            about.masking = explainer.masking(&config.run_settings()).into();
        }
        about
    }
}

/// Opens the classifier to explain.
pub(super) fn open_backbone(
    section: &config::Backbone,
    compute: &Compute,
    quiet: bool,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    let config::Backbone { name, weights, sha256, preprocessing, .. } = section;
    let preprocessing = preprocessing.as_ref().map(Preprocessing::from);
    with_download_bar(quiet, |progress| {
        backbone::open(name, weights, sha256.as_deref(), preprocessing.as_ref(), compute, progress)
    })
}

/// Names of the classes: of `backbone.classes`, else ImageNet's where there are 1000.
pub(super) fn class_names(section: &config::Backbone, count: usize) -> Result<Option<Vec<String>>, FitError> {
    let names = match (&section.classes, count) {
        (Some(path), _) => Some(classes::read(path)?),
        (None, 1000) => Some(classes::imagenet().into_iter().map(String::from).collect()),
        (None, _) => None,
    };
    if let Some(names) = &names {
        classes::check(names, count)?;
    }
    Ok(names)
}

/// The backbone's preprocessing with `data.crop` and `data.resize`.
pub(super) fn preprocessing(data: &Data, backbone: &dyn Backbone) -> Result<Preprocessing, FitError> {
    let spec = backbone.spec();
    let mut own = spec.preprocessing.clone();
    let found = data.crop.unwrap_or(own.crop);
    if let Some(expected) = spec.fixed_side().filter(|side| *side != found) {
        return Err(FitError::Side { backbone: spec.name.clone(), expected, found });
    }
    own.crop = found;
    own.resize = data.resize.unwrap_or(own.resize).max(own.crop);
    Ok(own)
}
