//! One explainer of a comparison: an image to its map, and what that costs.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use explainer_attribution::{AttributionMethod, MethodContext, MethodSpec};
use explainer_zoo::artifact::bee::METHOD;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::{Family, Metric, Mode};
use serde::{Deserialize, Serialize};

use super::classifier::Clean;
use super::ready::Trained;
use super::{Classifier, CompareError};
use crate::config::{CompareConfig, Compared, Source};
use crate::explain::bee::{self, LoadedBee};
use crate::explain::{ExplainError, Explained, LearnedExplainFn, LoadedExplainer, MethodExplainFn, Moved, Target};
use crate::report::progress::{warn_of_unverified, with_download_bar};
use explainer_metrics::ExplainFn;

/// What explanations cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Forward passes of the classifier.
    pub forward: u64,
    /// Its backward passes.
    pub backward: u64,
    /// Forward passes of a second classifier (P-TAME's auxiliary, BEE's context).
    pub second: u64,
    /// Seconds that the explanations took.
    pub seconds: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.backward += other.backward;
        self.second += other.second;
        self.seconds += other.seconds;
    }
}

/// An explainer under comparison.
#[derive(Debug)]
pub struct Contender {
    /// What the report calls it.
    pub name: String,
    /// What it is: a method, of a trained one also where it comes from.
    pub what: String,
    /// What its maps follow from: a trained one's SHA-256, or the method with its seed.
    pub identity: String,
    /// How many images it is measured on, if not on all.
    pub images: Option<usize>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A head, and the same before ever more random classifiers.
    Learned(Box<LoadedExplainer>, Vec<LoadedExplainer>),
    Bee(Box<LoadedBee>, Metric, usize, Mode),
    Method(Box<dyn AttributionMethod>),
}

/// Maps of a batch's predicted classes.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub clean: Clean,
    /// `[B,1,h,w]` in 0..1.
    pub maps: Tensor<4>,
    pub cost: Cost,
}

impl Contender {
    /// Opens the explainers of a configuration, each with its artifact if it is a trained one.
    ///
    /// # Errors
    /// [`CompareError::Explainer`], [`CompareError::Keys`].
    pub(super) fn all(
        config: &CompareConfig,
        trained: &[Option<Trained>],
        classifier: &Classifier,
        randomised: &[Arc<dyn Backbone>],
        compute: &Compute,
        quiet: bool,
    ) -> Result<Vec<Self>, CompareError> {
        let open = |(compared, trained): (&Compared, &Option<Trained>)| match (trained, compared.source()) {
            (Some(trained), _) if trained.about.method == METHOD => {
                Self::bee(compared, trained, classifier, compute, quiet)
            }
            (Some(trained), _) => Self::learned(compared, trained, classifier, randomised, compute, quiet),
            (None, Some(Source::Method(method))) => Self::method(compared, method, classifier, config),
            (None, _) => Err(keys(compared, "expected exactly one of the keys artifact, train and method")),
        };
        config.explainers.iter().zip(trained).map(open).collect()
    }

    fn learned(
        compared: &Compared,
        trained: &Trained,
        classifier: &Classifier,
        randomised: &[Arc<dyn Backbone>],
        compute: &Compute,
        quiet: bool,
    ) -> Result<Self, CompareError> {
        if compared.metric.is_some() || compared.draws.is_some() || compared.family.is_some() {
            return Err(keys(compared, "the keys metric, draws and family are BEE's; remove them"));
        }
        let weights = Some(classifier.record.weights.as_str());
        let moved = Moved { backbone: weights, auxiliary: compared.auxiliary_weights.as_deref() };
        let opened =
            with_download_bar(quiet, |progress| LoadedExplainer::open(&trained.folder, moved, compute, progress));
        let mut loaded = opened.map_err(failed(compared))?;
        warn_of_unverified(&loaded.matched);
        loaded.backbone = classifier.backbone.clone(); // one copy of its weights for all
        let before = |random: &Arc<dyn Backbone>| LoadedExplainer { backbone: random.clone(), ..loaded.clone() };
        let randomised = randomised.iter().map(before).collect();
        let what = format!("{}, {}", loaded.artifact.config.method, place(trained));
        let (name, identity, images) = (compared.name(), trained.sha256.clone(), compared.images);
        Ok(Self { name, what, identity, images, kind: Kind::Learned(Box::new(loaded), randomised) })
    }

    fn bee(
        compared: &Compared,
        trained: &Trained,
        classifier: &Classifier,
        compute: &Compute,
        quiet: bool,
    ) -> Result<Self, CompareError> {
        let weights = Some(classifier.record.weights.as_str());
        let moved = bee::Moved { backbone: weights, context: compared.auxiliary_weights.as_deref() };
        let opened = with_download_bar(quiet, |progress| LoadedBee::open(&trained.folder, moved, compute, progress));
        let loaded = opened.map_err(failed(compared))?;
        warn_of_unverified(&loaded.matched);
        let config = &loaded.artifact.config;
        let metric = match (&compared.metric, config.metrics.as_slice()) {
            (Some(name), _) => name.parse().map_err(|error| keys(compared, &format!("metric: {error}")))?,
            (None, [only]) => *only,
            (None, all) => {
                let names: Vec<&str> = all.iter().map(|metric| metric.name()).collect();
                return Err(keys(compared, &format!("the key metric is needed: one of {}", names.join(", "))));
            }
        };
        loaded.artifact.mixtures.of(metric).map_err(|error| keys(compared, &format!("metric: {error}")))?;
        let draws = compared.draws.unwrap_or(config.draws);
        let family = compared.family.as_deref().map(str::parse::<Family>).transpose();
        let family = family.map_err(|error| keys(compared, &format!("family: {error}")))?;
        let (mode, from) = match family {
            Some(family) => (Mode::Fixed(family), format!(" from the family {family}")),
            None => (Mode::Pretrained, String::new()),
        };
        let what = format!("BEE for {metric}, the best of {draws} draws{from}, {}", place(trained));
        let identity = format!("{}, {metric}, {draws} draws{from}", trained.sha256);
        let (name, images) = (compared.name(), compared.images);
        Ok(Self { name, what, identity, images, kind: Kind::Bee(Box::new(loaded), metric, draws, mode) })
    }

    fn method(
        compared: &Compared,
        method: &str,
        classifier: &Classifier,
        config: &CompareConfig,
    ) -> Result<Self, CompareError> {
        let name = compared.name();
        let context = MethodContext {
            preprocessing: &classifier.preprocessing,
            seed: config.seed,
            batch_size: config.batch_size,
            ..MethodContext::new(classifier.backbone.as_ref())
        };
        let comparator: MethodSpec = method.parse().map_err(|error| CompareError::method(&name, error))?;
        let made = comparator.build(&context).map_err(|error| CompareError::method(&name, error))?;
        let what = match comparator.to_string() {
            own if own == name => comparator.title().to_owned(),
            own => format!("{}, {own}", comparator.title()),
        };
        let identity = format!("{comparator}, seed {}", config.seed);
        Ok(Self { name, what, identity, images: compared.images, kind: Kind::Method(made) })
    }

    /// Explains images `[B,3,H,W]` in 0..=1 for the classes that the classifier predicts.
    ///
    /// # Errors
    /// [`CompareError::Explainer`].
    pub(super) fn draw(&self, classifier: &Classifier, pixels: Tensor<4>) -> Result<Drawn, CompareError> {
        let failed = |source: ExplainError| CompareError::Explainer { name: self.name.clone(), source };
        let images = pixels.dims()[0] as u64;
        match &self.kind {
            Kind::Learned(loaded, _) => {
                let start = Instant::now();
                let Explained { images: normalised, logits, classes, maps, .. } =
                    loaded.maps(pixels, Target::Top(1)).map_err(failed)?;
                let maps = arrived(maps);
                let passes = loaded.artifact.config.passes;
                let cost = Cost {
                    forward: images * u64::from(passes.forward),
                    backward: images * u64::from(passes.backward),
                    second: images * u64::from(passes.auxiliary_forward),
                    seconds: start.elapsed().as_secs_f64(),
                };
                let clean = Clean { images: normalised, logits, classes: classes.concat() };
                Ok(Drawn { clean, maps, cost })
            }
            Kind::Method(method) => {
                let clean = classifier.look(pixels);
                let start = Instant::now();
                let backbone = classifier.backbone.as_ref();
                let found = method.explain(backbone, &clean.images, &clean.classes).map_err(|e| failed(e.into()))?;
                let maps = arrived(found.maps);
                let seconds = start.elapsed().as_secs_f64();
                let cost = Cost { forward: found.passes.forward, backward: found.passes.backward, second: 0, seconds };
                Ok(Drawn { clean, maps, cost })
            }
            Kind::Bee(loaded, metric, draws, mode) => {
                let clean = classifier.look(pixels.clone());
                let (start, before) = (Instant::now(), loaded.passes());
                let mut maps = Vec::new();
                for (image, class) in clean.classes.iter().enumerate() {
                    let pixels = pixels.clone().narrow(0, image, 1);
                    let best = loaded.explain(pixels, Target::Class(*class), *metric, *draws, *mode);
                    for drawn in best.map_err(failed)? {
                        let map = drawn.map.map;
                        let shape = [1, 1, map.height(), map.width()];
                        let data = TensorData::new(map.values().to_vec(), shape);
                        maps.push(Tensor::<4>::from_data(data, &clean.images.device()));
                    }
                }
                let seconds = start.elapsed().as_secs_f64();
                let [own, context] = loaded.passes();
                let (own, context) = (own - before[0], context - before[1]);
                let cost = Cost { forward: own.forward, backward: own.backward, second: context.forward, seconds };
                Ok(Drawn { clean, maps: Tensor::cat(maps, 0), cost })
            }
        }
    }

    /// The explainer as metrics ask it for further maps; BEE, whose maps are drawn at random, is not asked.
    pub(super) fn asked<'a>(
        &'a self,
        classifier: &'a Classifier,
        randomised: &'a [Arc<dyn Backbone>],
    ) -> Option<Box<dyn ExplainFn + 'a>> {
        match &self.kind {
            Kind::Learned(trained, randomised) => Some(Box::new(LearnedExplainFn { trained, randomised })),
            Kind::Method(method) => {
                let randomised = randomised.iter().map(AsRef::as_ref).collect();
                let trained = classifier.backbone.as_ref();
                Some(Box::new(MethodExplainFn { method: method.as_ref(), trained, randomised }))
            }
            Kind::Bee(..) => None,
        }
    }
}

/// The maps once they are computed: a device may be behind, and time is measured.
fn arrived(maps: Tensor<4>) -> Tensor<4> {
    let device = maps.device();
    Tensor::from_data(maps.into_data(), &device)
}

/// Where a trained explainer comes from.
fn place(trained: &Trained) -> String {
    trained.run.as_ref().unwrap_or(&trained.folder).display().to_string()
}

fn keys(compared: &Compared, problem: &str) -> CompareError {
    CompareError::Keys { name: compared.name(), problem: problem.into() }
}

fn failed(compared: &Compared) -> impl Fn(ExplainError) -> CompareError {
    let name = compared.name();
    move |source| CompareError::Explainer { name: name.clone(), source }
}
