//! The classifier that all explainers of a comparison explain.

use std::sync::Arc;

use explainer_zoo::artifact::BackboneRecord;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::classes;
use explainer_zoo::device::Compute;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::source::Progress;

use super::error::CompareError;
use super::trained::Trained;
use crate::config::CompareConfig;
use crate::report::progress::with_download_bar;
use explainer_metrics::CASCADE;

/// The explained classifier.
#[derive(Clone, Debug)]
pub struct ComparedClassifier {
    /// The network.
    pub backbone: Arc<dyn Backbone>,
    /// How images become its input.
    pub preprocessing: Preprocessing,
    /// Its name and the source of its weights.
    pub record: BackboneRecord,
    /// Names of its classes, where known.
    pub names: Option<Vec<String>>,
}

impl ComparedClassifier {
    /// The classifier of the configuration, or of the first trained explainer; `trained` has an entry per explainer.
    ///
    /// # Errors
    /// [`CompareError::Classifier`] where a trained explainer has another one; weights that cannot be loaded.
    pub(super) fn load(
        config: &CompareConfig,
        trained: &[Option<Trained>],
        compute: &Compute,
        quiet: bool,
    ) -> Result<Self, CompareError> {
        let named = config.explainers.iter().zip(trained);
        let mut learned = named.filter_map(|(explainer, trained)| Some((explainer.name(), trained.as_ref()?)));
        let first = learned.clone().next();
        let load = |record: &BackboneRecord| {
            let preprocessing = first.as_ref().map(|(_, trained)| &trained.about.preprocessing);
            with_download_bar(quiet, |progress| record.load(preprocessing, compute, progress))
        };
        // If all classifiers have records, compare the records before loading weights.
        let mut opened = None;
        let (mut record, place) = match (&config.backbone, &first) {
            (Some(section), _) => {
                let (name, weights) = (section.name.clone(), section.weights.clone());
                let mut record = BackboneRecord { name, weights, sha256: section.sha256.clone() };
                let backbone = load(&record)?;
                record.sha256.clone_from(&backbone.spec().weights_sha256);
                opened = Some(backbone);
                (record, "the key `backbone` names".to_owned())
            }
            (None, Some((name, trained))) => (trained.about.backbone.clone(), format!("{name} explains")),
            (None, None) => return Err(unknown_classifier()),
        };
        let own = || opened.as_ref().map(|backbone| backbone.spec().preprocessing.clone());
        let preprocessing = first.as_ref().map(|(_, trained)| trained.about.preprocessing.clone()).or_else(own);
        let Some(preprocessing) = preprocessing else { return Err(unknown_classifier()) };
        let expected = described(&record, &preprocessing);
        if let Some((name, other)) = learned.find(|(_, other)| {
            let theirs = &other.about.backbone;
            let same = match (&record.sha256, &theirs.sha256) {
                (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
                _ => record.weights == theirs.weights,
            };
            !same || record.name != theirs.name || preprocessing != other.about.preprocessing
        }) {
            let found = described(&other.about.backbone, &other.about.preprocessing);
            return Err(CompareError::Classifier { name, found, first: place, expected });
        }
        let backbone = match opened {
            Some(backbone) => backbone,
            None => load(&record)?,
        };
        record.sha256.clone_from(&backbone.spec().weights_sha256);
        let count = backbone.spec().classes;
        let names = match config.backbone.as_ref().and_then(|section| section.classes.as_ref()) {
            Some(path) => {
                let names = classes::read(path)?;
                classes::check(&names, count)?;
                Some(names)
            }
            None => first.and_then(|(_, trained)| trained.about.class_names.clone()),
        };
        Ok(Self { backbone, preprocessing, record, names })
    }

    /// The classifier at each stage of the cascading randomisation ([`CASCADE`]).
    ///
    /// # Errors
    /// Weights that cannot be read again.
    pub(super) fn randomised(&self, compute: &Compute, quiet: bool) -> Result<Vec<Arc<dyn Backbone>>, CompareError> {
        let cascade = |progress: &mut Progress<'_>| self.record.cascade(&CASCADE, compute, progress);
        Ok(with_download_bar(quiet, cascade)?)
    }
}

fn unknown_classifier() -> CompareError {
    let problem = "needed, since no explainer is a trained one".into();
    CompareError::Keys { name: "backbone".into(), problem }
}

/// A classifier in words: name, weights, image size.
fn described(record: &BackboneRecord, preprocessing: &Preprocessing) -> String {
    let weights = match &record.sha256 {
        Some(sha256) => format!("SHA-256 {}", sha256.get(..12).unwrap_or(sha256)),
        None => record.weights.clone(),
    };
    let Preprocessing { resize, crop, .. } = preprocessing;
    format!("{} ({weights}) on images of {crop} pixels, resized to {resize}", record.name)
}
