//! The frozen classifier that a configuration names, and how a head looks at it.

use std::sync::Arc;

use explainer_zoo::adapter::Adapter;
use explainer_zoo::backbone::{self, Backbone, TapId, TapSpec};
use explainer_zoo::classes;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::Method;
use explainer_zoo::image::Preprocessing;
use explainer_zoo::weights::source::Progress;

use super::FitError;
use super::context::Masked;
use crate::config::{Config, Data, Explainer};
use crate::report::progress::with_download_bar;

/// Everything that a configuration says of a head's surroundings, loaded and checked. No image is opened.
pub(super) struct Classifier {
    pub backbone: Arc<dyn Backbone>,
    pub preprocessing: Preprocessing,
    pub method: Method,
    /// What the maps mask.
    pub masked: Masked,
    /// Names of the taps, in the head's order; the next three go with them.
    pub taps: Vec<String>,
    pub ids: Vec<TapId>,
    pub tap_specs: Vec<TapSpec>,
    pub adapters: Vec<Adapter>,
    /// Names of the classes: of `backbone.classes`, else ImageNet's where there are 1000.
    pub class_names: Option<Vec<String>>,
}

impl Classifier {
    pub fn load(config: &Config, compute: &Compute, quiet: bool) -> Result<Self, FitError> {
        let wanted = &config.backbone;
        let (name, weights, sha256) = (&wanted.name, &wanted.weights, wanted.sha256.as_deref());
        let load = |progress: &mut Progress<'_>| backbone::load(name, weights, sha256, compute, progress);
        let backbone: Arc<dyn Backbone> = Arc::new(with_download_bar(quiet, load)?);
        let spec = backbone.spec();
        let taps = wanted.taps.clone().unwrap_or_else(|| spec.default_taps.clone());
        let ids = backbone.taps(&taps)?;
        let preprocessing = preprocessing(&config.data, backbone.as_ref())?;
        let tap_specs: Vec<_> = ids.iter().map(|id: &TapId| backbone.tap(*id).clone()).collect();
        let adapters =
            tap_specs.iter().map(|tap| Adapter::new(tap, preprocessing.crop)).collect::<Result<Vec<_>, _>>()?;
        let method = match &config.explainer {
            Explainer::Ttame(_) => Method::Ttame,
            Explainer::Tame(_) => Method::Tame,
            Explainer::LcamImg(_) => Method::LcamImg,
            Explainer::LcamFm(_) => Method::LcamFm,
        };
        let masked = match method {
            Method::LcamFm => Masked::Feature,
            _ => Masked::Image(config.masking),
        };
        let class_names = match (&wanted.classes, spec.classes) {
            (Some(path), _) => Some(classes::read(path)?),
            (None, 1000) => Some(classes::imagenet().into_iter().map(String::from).collect()),
            (None, _) => None,
        };
        if let Some(names) = &class_names {
            classes::check(names, spec.classes)?;
        }
        Ok(Self { backbone, preprocessing, method, masked, taps, ids, tap_specs, adapters, class_names })
    }
}

fn preprocessing(data: &Data, backbone: &dyn Backbone) -> Result<Preprocessing, FitError> {
    let spec = backbone.spec();
    let mut own = spec.preprocessing.clone();
    let found = data.crop.unwrap_or(own.crop);
    // Position embeddings fit one grid.
    if found != own.crop && spec.taps.iter().any(|tap| tap.prefix_tokens.is_some()) {
        return Err(FitError::Side { backbone: spec.name.clone(), expected: own.crop, found });
    }
    own.crop = found;
    own.resize = data.resize.unwrap_or(own.resize).max(own.crop);
    Ok(own)
}

/// The masking procedure as an artifact records it.
pub(super) fn masking_name(masked: Masked) -> String {
    match masked {
        Masked::Image(masking) => serde_json::to_value(masking).ok().and_then(|v| v.as_str().map(String::from)),
        Masked::Feature => None,
    }
    .unwrap_or_else(|| "feature".into())
}
