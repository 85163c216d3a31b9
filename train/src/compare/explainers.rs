//! The explainers of a comparison, opened.

use std::sync::Arc;

use explainer_attribution::{AttributionError, MethodContext, MethodExplainer, MethodSpec};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Explain, ExplainError};
use explainer_zoo::explainer::bee::{BaselineDistribution, Mode, RewardMetric};

use super::classifier::ComparedClassifier;
use super::error::CompareError;
use super::trained::Trained;
use crate::config::{CompareConfig, ExplainerEntry, Source};
use crate::evaluation::Candidate;
use crate::explain::{BeeOptions, OpenError, OpenOptions, WeightOverrides, metric_names, open};
use crate::report::progress::{warn_of_unverified, with_download_bar};

/// An explainer under comparison.
#[derive(Clone, Debug)]
pub struct ComparedExplainer {
    /// Its name in the report.
    pub name: String,
    /// What it is: the method, and for a trained explainer where it comes from.
    pub what: String,
    /// What its maps follow from: the SHA-256 of a trained explainer, or the method with its seed.
    pub identity: String,
    /// How many images it is measured on, if not on all.
    pub images: Option<usize>,
    /// The explainer.
    pub candidate: Candidate,
}

/// What the explainers of a comparison share.
pub(super) struct Shared<'a> {
    pub config: &'a CompareConfig,
    pub classifier: &'a ComparedClassifier,
    /// The classifier at each stage of the cascading randomisation; empty if no metric needs it.
    pub randomised: &'a [Arc<dyn Backbone>],
    pub compute: &'a Compute,
    pub quiet: bool,
}

impl Shared<'_> {
    /// Opens the explainers of the configuration; `trained` has the artifact of each that is a trained one.
    ///
    /// # Errors
    /// [`CompareError::Explainer`], [`CompareError::Keys`].
    pub fn open(&self, trained: &[Option<Trained>]) -> Result<Vec<ComparedExplainer>, CompareError> {
        let open = |(compared, trained): (&ExplainerEntry, &Option<Trained>)| match (trained, compared.source()) {
            (Some(trained), _) => self.trained(compared, trained),
            (None, Some(Source::Method(method))) => self.method(compared, method),
            (None, _) => Err(keys(compared, "expected exactly one of the keys artifact, train and method")),
        };
        self.config.explainers.iter().zip(trained).map(open).collect()
    }

    fn trained(&self, compared: &ExplainerEntry, trained: &Trained) -> Result<ComparedExplainer, CompareError> {
        let weights = WeightOverrides {
            backbone: Some(self.classifier.record.weights.clone()),
            second: compared.auxiliary_weights.clone(),
        };
        let options = OpenOptions { weights, compute: self.compute.clone(), bee: bee_options(compared)? };
        let opened = with_download_bar(self.quiet, |progress| open(&trained.folder, &options, progress));
        let opened = opened.map_err(|error| refused(compared, error))?;
        warn_of_unverified(&opened.matched);
        let explainer = opened.explainer;
        // One copy of the classifier's weights for all, where that is possible.
        let explainer = explainer.with_backbone(self.classifier.backbone.clone()).unwrap_or(explainer);
        let place = trained.run.as_ref().unwrap_or(&trained.folder).display();
        let what = format!("{}, {place}", opened.method);
        let identity = match opened.settings {
            Some(settings) => format!("{}, {settings}", trained.sha256),
            None => trained.sha256.clone(),
        };
        Ok(self.compared(compared, what, identity, explainer))
    }

    fn method(&self, compared: &ExplainerEntry, method: &str) -> Result<ComparedExplainer, CompareError> {
        let name = compared.name();
        let failed = |error: AttributionError| CompareError::Explainer {
            name: name.clone(),
            source: ExplainError::method(error),
        };
        let (backbone, preprocessing) = (&self.classifier.backbone, &self.classifier.preprocessing);
        let (seed, batch_size) = (self.config.seed, self.config.batch_size);
        let context = MethodContext { preprocessing, seed, batch_size, ..MethodContext::new(backbone.as_ref()) };
        let spec: MethodSpec = method.parse().map_err(failed)?;
        let made = spec.build(&context).map_err(failed)?;
        let what = match spec.to_string() {
            own if own == name => spec.title().to_owned(),
            own => format!("{}, {own}", spec.title()),
        };
        let identity = format!("{spec}, seed {seed}");
        let device = self.compute.device.clone();
        let explainer = MethodExplainer::new(spec, made, backbone.clone(), preprocessing.clone(), device);
        Ok(self.compared(compared, what, identity, Arc::new(explainer)))
    }

    fn compared(
        &self,
        compared: &ExplainerEntry,
        what: String,
        identity: String,
        explainer: Arc<dyn Explain>,
    ) -> ComparedExplainer {
        let (name, images) = (compared.name(), compared.images);
        ComparedExplainer { name, what, identity, images, candidate: Candidate::new(explainer, self.randomised) }
    }
}

/// BEE's options of an explainer.
fn bee_options(compared: &ExplainerEntry) -> Result<BeeOptions, CompareError> {
    let metric = compared.metric.as_deref().map(str::parse::<RewardMetric>).transpose();
    let metric = metric.map_err(|error| keys(compared, &format!("metric: {error}")))?;
    let family = compared.family.as_deref().map(str::parse::<BaselineDistribution>).transpose();
    let family = family.map_err(|error| keys(compared, &format!("family: {error}")))?;
    Ok(BeeOptions { metric, draws: compared.draws, mode: family.map_or(Mode::Pretrained, Mode::Fixed) })
}

/// Why a trained explainer cannot be opened, in terms of the configuration's keys.
fn refused(compared: &ExplainerEntry, error: OpenError) -> CompareError {
    match error {
        OpenError::Explain(source) => CompareError::Explainer { name: compared.name(), source },
        OpenError::NotBee { .. } => keys(compared, "the keys metric, draws and family are BEE's; remove them"),
        OpenError::MetricNeeded { known } => {
            keys(compared, &format!("the key metric is needed: one of {}", metric_names(&known)))
        }
        OpenError::NoMixture(error) => keys(compared, &format!("metric: {error}")),
    }
}

fn keys(compared: &ExplainerEntry, problem: &str) -> CompareError {
    CompareError::Keys { name: compared.name(), problem: problem.into() }
}
