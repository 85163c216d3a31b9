//! Opening any explainer: a learned head or BEE.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::artifact::bee;
use explainer_zoo::artifact::{self, BackboneMatch, BackboneRecord};
use explainer_zoo::backbone::{Backbone, BackboneError};
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Explain, Explainer};
use explainer_zoo::weights::source::Progress;

use super::bee_explainer::BeeExplainer;
use super::options::{OpenError, OpenOptions};

/// An explainer, and the record of the classifier that it explains.
#[derive(Clone, Debug)]
pub struct OpenedExplainer {
    /// The explainer.
    pub explainer: Arc<dyn Explain>,
    /// The classifier, with the place that its weights were read from.
    pub record: BackboneRecord,
    /// Whether the classifiers are those of the training; [`BackboneMatch::Unverified`] deserves a warning.
    pub matched: Vec<BackboneMatch>,
    /// The method in words: `ttame`, or `BEE for INS, the best of 8 draws`.
    pub method: String,
    /// What the maps depend on besides the artifact: `INS, 8 draws` of BEE; `None` for a head.
    pub settings: Option<String>,
}

/// Opens the explainer in `folder`, an artifact or the output of a run: a learned head or BEE.
///
/// ```no_run
/// use explainer_train::explain::{BeeOptions, OpenOptions, open};
/// use explainer_zoo::explainer::bee::RewardMetric;
///
/// let bee = BeeOptions { metric: Some(RewardMetric::Ins), draws: Some(8), ..BeeOptions::default() };
/// let options = OpenOptions { bee, ..OpenOptions::default() };
/// let explainer = open("checkpoints/bee_vit".as_ref(), &options, &mut |_, _| {})?.explainer;
/// let top = explainer.explain(&explainer_zoo::image::decode("photo.jpg".as_ref())?)?;
/// println!("class {}, {:?}: {:?}", top.class, explainer.details(), top.details);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`OpenError`].
pub fn open(folder: &Path, options: &OpenOptions, progress: &mut Progress<'_>) -> Result<OpenedExplainer, OpenError> {
    let OpenOptions { weights, compute, bee } = options;
    let folder = &artifact::locate(folder)?;
    if bee::is_bee(folder) {
        let opened = BeeExplainer::open(folder, weights, *bee, compute, progress)?;
        let record = opened.artifact.config.backbone.clone().with_weights(weights.backbone.as_deref());
        let (matched, method, settings) = (opened.matched.clone(), opened.name(), Some(opened.settings()));
        return Ok(OpenedExplainer { explainer: Arc::new(opened), record, matched, method, settings });
    }
    if let Some(option) = bee.given() {
        return Err(OpenError::NotBee { option });
    }
    let (own, second) = (weights.backbone.as_deref(), weights.second.as_deref());
    let opened = Explainer::load(folder, own, second, compute, progress)?;
    let config = &opened.artifact.config;
    let (record, method) = (config.backbone.clone().with_weights(own), config.method.to_string());
    let matched = opened.matched.clone();
    Ok(OpenedExplainer { explainer: Arc::new(opened), record, matched, method, settings: None })
}

impl OpenedExplainer {
    /// The classifier once for each stage of the cascading randomisation ([`explainer_metrics::CASCADE`]).
    ///
    /// # Errors
    /// Weights that cannot be read again.
    pub fn cascade(
        &self,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Arc<dyn Backbone>>, BackboneError> {
        self.record.cascade(&explainer_metrics::CASCADE, compute, progress)
    }
}
