//! The frozen classifier that a configuration names, the auxiliary if there is one, and what a head looks at.

use std::sync::Arc;

use explainer_zoo::adapter::Adapter;
use explainer_zoo::artifact::ArtifactConfig;
use explainer_zoo::auxiliary::{Auxiliary, AuxiliaryError};
use explainer_zoo::backbone::{self, Backbone, BackboneError, TapId, TapSpec};
use explainer_zoo::classes;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::{AnyHeadConfig, MaskingModelConfig, Method};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::source::Progress;

use super::FitError;
use super::context::{Masked, Task};
use super::step::TameTask;
use crate::config::{self, Config, Data, ExplainerConfig};
use crate::report::progress::with_download_bar;

/// Everything that a configuration says of a head's surroundings, loaded and checked. No image is opened.
pub(super) struct Classifier {
    pub backbone: Arc<dyn Backbone>,
    pub preprocessing: Preprocessing,
    pub method: Method,
    /// Names of the taps, in the head's order, the auxiliary's if there is one.
    pub taps: Vec<String>,
    pub tap_specs: Vec<TapSpec>,
    /// The backbone's own taps and how each becomes a map; none with an auxiliary.
    pub ids: Vec<TapId>,
    pub adapters: Vec<Adapter>,
    pub auxiliary: Option<Auxiliary>,
    /// Names of the classes: of `backbone.classes`, else ImageNet's where there are 1000.
    pub class_names: Option<Vec<String>>,
}

impl Classifier {
    pub fn load(config: &Config, compute: &Compute, quiet: bool) -> Result<Self, FitError> {
        let wanted = &config.backbone;
        let backbone = explained(wanted, compute, quiet)?;
        let spec = backbone.spec();
        let preprocessing = preprocessing(&config.data, backbone.as_ref())?;
        let auxiliary = match &config.auxiliary {
            None => None,
            Some(section) => {
                let (name, weights) = (&section.name, &section.weights);
                let sha256 = section.sha256.as_deref();
                let load = |progress: &mut Progress<'_>| backbone::open(name, weights, sha256, None, compute, progress);
                let lends = with_download_bar(quiet, load).map_err(AuxiliaryError::from)?;
                let taps = section.taps.clone().unwrap_or_else(|| lends.spec().auxiliary_taps.clone());
                let preprocessing = preprocessing.normalised_as(&lends.spec().preprocessing);
                Some(Auxiliary::new(lends, &taps, preprocessing)?)
            }
        };
        let own = match &auxiliary {
            None => wanted.taps.clone().unwrap_or_else(|| match &config.explainer {
                ExplainerConfig::MaskingModel(_) => {
                    MaskingModelConfig::scales(&spec.taps).into_iter().map(|tap| tap.name.clone()).collect()
                }
                _ => spec.default_taps.clone(),
            }),
            Some(_) => Vec::new(),
        };
        let ids = backbone.taps(&own)?;
        let own: Vec<_> = ids.iter().map(|id: &TapId| backbone.tap(*id).clone()).collect();
        let adapters = own.iter().map(|tap| Adapter::new(tap, preprocessing.crop)).collect::<Result<Vec<_>, _>>()?;
        let tap_specs = auxiliary.as_ref().map_or(own, Auxiliary::tap_specs);
        let taps = tap_specs.iter().map(|tap| tap.name.clone()).collect();
        let method = match &config.explainer {
            ExplainerConfig::Ttame(_) => Method::Ttame,
            ExplainerConfig::Tame(_) => Method::Tame,
            ExplainerConfig::Ptame(_) => Method::Ptame,
            ExplainerConfig::LcamImg(_) => Method::LcamImg,
            ExplainerConfig::LcamFm(_) => Method::LcamFm,
            ExplainerConfig::MaskingModel(_) => Method::MaskingModel,
            ExplainerConfig::Bee(_) => return Err(FitError::NoHead { method: config.explainer.method() }),
        };
        if tap_specs.is_empty() {
            return Err(FitError::NoTaps { backbone: spec.name.clone() });
        }
        if method == Method::LcamFm && !backbone.can_replace_taps() {
            return Err(FitError::FixedTaps { backbone: spec.name.clone(), asks: "explainer.method lcam_fm" });
        }
        let class_names = class_names(wanted, spec.classes)?;
        Ok(Self { backbone, preprocessing, method, taps, tap_specs, ids, adapters, auxiliary, class_names })
    }

    /// What an artifact of a head of this shape says of its surroundings; figures are the caller's.
    pub fn describe(&self, config: &Config, head: impl Into<AnyHeadConfig>) -> ArtifactConfig {
        let (taps, spec, weights) = (self.taps.clone(), self.backbone.spec(), &config.backbone.weights);
        let mut about = ArtifactConfig::new(self.method, head, taps, spec, weights);
        if let (Some(auxiliary), Some(section)) = (&self.auxiliary, &config.auxiliary) {
            about = about.with_auxiliary(auxiliary.backbone.spec(), &section.weights);
        }
        about.preprocessing = self.preprocessing.clone();
        about.class_names.clone_from(&self.class_names);
        about.masking = masking_name(&Task::of(config));
        about
    }
}

/// The classifier to explain.
pub(super) fn explained(
    wanted: &config::Backbone,
    compute: &Compute,
    quiet: bool,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    let config::Backbone { name, weights, sha256, preprocessing, .. } = wanted;
    let preprocessing = preprocessing.as_ref().map(Preprocessing::from);
    with_download_bar(quiet, |progress| {
        backbone::open(name, weights, sha256.as_deref(), preprocessing.as_ref(), compute, progress)
    })
}

/// Names of the classes: of `backbone.classes`, else ImageNet's where there are 1000.
pub(super) fn class_names(wanted: &config::Backbone, count: usize) -> Result<Option<Vec<String>>, FitError> {
    let names = match (&wanted.classes, count) {
        (Some(path), _) => Some(classes::read(path)?),
        (None, 1000) => Some(classes::imagenet().into_iter().map(String::from).collect()),
        (None, _) => None,
    };
    if let Some(names) = &names {
        classes::check(names, count)?;
    }
    Ok(names)
}

/// How photographs become the backbone's input.
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

/// The masking procedure as an artifact records it.
fn masking_name(task: &Task) -> String {
    let masked = match task {
        Task::Tame(TameTask { masked, .. }) => *masked,
        Task::MaskingModel(_) => return "infill".into(),
    };
    match masked {
        Masked::Image(masking) => serde_json::to_value(masking).ok().and_then(|v| v.as_str().map(String::from)),
        Masked::Feature => None,
    }
    .unwrap_or_else(|| "feature".into())
}
