//! Every method by name.

use std::fmt;
use std::str::FromStr;

use super::rise::Masks;
use super::tensors::PER_CALL;
use super::tokens::Patches;
use super::{
    AblationCam, AbsCam, AttributionError, AttributionMethod, CentreGaussian, Daam, Edges, ExtremalPerturbation, FdCam,
    GradCam, GradCamPlusPlus, Iia, IntegratedGradients, Layer, LayerCam, MeaningfulPerturbation, OptiCam, RandomMap,
    Rise, Rollout, ScoreCam, Sidu, SmoothGrad, TransformerAttribution, UniformMap, VitCx,
};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;

/// What a method is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The classifier to explain.
    pub backbone: &'a dyn Backbone,
    /// How its images are normalised, and their side.
    pub preprocessing: &'a Preprocessing,
    /// The layer that a method weighs which weighs one; [`Layer::usual`] by default.
    pub layer: Option<&'a str>,
    /// Of the random numbers of methods that need some.
    pub seed: u64,
    /// Perturbed images, or feature maps, in memory at a time: what bounds the memory beside the batch itself, whatever the
    /// method.
    pub per_call: usize,
}

impl<'a> Setup<'a> {
    /// The classifier with its own preprocessing, and the usual layer.
    pub fn new(backbone: &'a dyn Backbone) -> Self {
        Self { backbone, preprocessing: &backbone.spec().preprocessing, layer: None, seed: 0, per_call: PER_CALL }
    }

    fn layer(&self, method: &'static str) -> Result<Layer, AttributionError> {
        let none = || AttributionError::NoLayer { method, backbone: self.backbone.spec().name.clone() };
        let usual = || Layer::usual(self.backbone).map(|tap| tap.name.as_str());
        let name = self.layer.or_else(usual).ok_or_else(none)?;
        Layer::named(self.backbone, name, self.preprocessing.crop)
    }

    /// A layer that the method puts features in the place of, or takes gradients with respect to.
    fn open_layer(&self, method: &'static str) -> Result<Layer, AttributionError> {
        if !self.backbone.can_replace_taps() {
            return Err(AttributionError::Fixed { method, backbone: self.backbone.spec().name.clone() });
        }
        self.layer(method)
    }

    fn patches(&self, method: &'static str) -> Result<Patches, AttributionError> {
        Patches::of(self.backbone, self.preprocessing.crop, method)
    }
}

/// A method of the registry, not yet made for a classifier.
struct Entry {
    name: &'static str,
    title: &'static str,
    /// What the number behind an `@` counts, and its default.
    count: Option<(&'static str, usize)>,
    make: fn(&Setup<'_>, usize) -> Made,
}

type Made = Result<Box<dyn AttributionMethod>, AttributionError>;

impl Entry {
    /// A method without a number.
    const fn plain(name: &'static str, title: &'static str, make: fn(&Setup<'_>, usize) -> Made) -> Self {
        Self { name, title, count: None, make }
    }

    /// A method with one.
    const fn counted(
        name: &'static str,
        title: &'static str,
        count: (&'static str, usize),
        make: fn(&Setup<'_>, usize) -> Made,
    ) -> Self {
        Self { name, title, count: Some(count), make }
    }

    fn form(&self) -> String {
        self.count.map_or(self.name.to_owned(), |(what, _)| format!("{}[@{what}]", self.name))
    }
}

/// One line a method.
const METHODS: &[Entry] = &[
    Entry::plain("grad-cam", "Grad-CAM", |s, _| made(GradCam { layer: s.open_layer("grad-cam")? })),
    Entry::plain("grad-cam++", "Grad-CAM++", |s, _| made(GradCamPlusPlus { layer: s.open_layer("grad-cam++")? })),
    Entry::plain("layer-cam", "LayerCAM", |s, _| made(LayerCam { layer: s.open_layer("layer-cam")? })),
    Entry::plain("score-cam", "Score-CAM", |s, _| {
        made(ScoreCam { layer: s.layer("score-cam")?, per_call: s.per_call })
    }),
    Entry::plain("ablation-cam", "Ablation-CAM", |s, _| {
        made(AblationCam { layer: s.open_layer("ablation-cam")?, per_call: s.per_call })
    }),
    Entry::plain("abs-cam", "Abs-CAM", |s, _| made(AbsCam { layer: s.open_layer("abs-cam")? })),
    Entry::plain("fd-cam", "FD-CAM", |s, _| {
        made(FdCam { layer: s.open_layer("fd-cam")?, quantile: 0.95, per_call: s.per_call })
    }),
    Entry::counted("rise", "RISE", ("MASKS", 8000), |s, count| {
        made(Rise { masks: Masks::Random { count, side: 7, keep: 0.5, seed: s.seed }, per_call: s.per_call })
    }),
    Entry::plain("sidu", "SIDU", |s, _| made(Sidu { layer: s.layer("sidu")?, per_call: s.per_call })),
    Entry::counted("integrated-gradients", "Integrated Gradients", ("STEPS", 50), |s, steps| {
        made(IntegratedGradients { steps, preprocessing: s.preprocessing.clone() })
    }),
    Entry::counted("smooth-grad", "SmoothGrad", ("SAMPLES", 50), |s, samples| {
        made(SmoothGrad { samples, noise: 0.15, seed: s.seed, per_call: s.per_call })
    }),
    Entry::counted("iia", "IIA", ("STEPS", 10), |s, steps| {
        let (layer, preprocessing) = (s.open_layer("iia")?, s.preprocessing.clone());
        made(Iia { layer, steps, preprocessing, per_call: s.per_call })
    }),
    Entry::counted("opti-cam", "Opti-CAM", ("STEPS", 50), |s, steps| {
        made(OptiCam { layer: s.layer("opti-cam")?, steps, rate: 0.1 })
    }),
    Entry::counted("meaningful-perturbation", "meaningful perturbation", ("STEPS", 300), |s, steps| {
        made(MeaningfulPerturbation { steps, seed: s.seed })
    }),
    Entry::counted("extremal-perturbation", "extremal perturbation", ("STEPS", 800), |s, steps| {
        made(ExtremalPerturbation { areas: ExtremalPerturbation::AREAS.to_vec(), steps, per_call: s.per_call })
    }),
    Entry::plain("rollout", "attention rollout", |s, _| made(Rollout { patches: s.patches("rollout")? })),
    Entry::plain("transformer-attribution", "transformer attribution", |s, _| {
        made(TransformerAttribution { patches: s.patches("transformer-attribution")? })
    }),
    Entry::plain("vit-cx", "ViT-CX", |s, _| {
        s.patches("vit-cx")?;
        made(VitCx { layer: s.layer("vit-cx")?, threshold: 0.1, seed: s.seed, per_call: s.per_call })
    }),
    Entry::plain("daam", "DAAM", |s, _| made(Daam { patches: s.patches("daam")? })),
    Entry::plain("random", "random map", |s, _| made(RandomMap { seed: s.seed })),
    Entry::plain("centre-gaussian", "centre Gaussian", |_, _| made(CentreGaussian)),
    Entry::plain("edges", "edges", |s, _| made(Edges { preprocessing: s.preprocessing.clone() })),
    Entry::plain("uniform", "uniform map", |_, _| made(UniformMap)),
];

fn made(method: impl AttributionMethod + 'static) -> Made {
    Ok(Box::new(method))
}

/// A method by its name, `NAME` or `NAME@NUMBER`, such as `rise@4000`.
#[derive(Clone, Copy)]
pub struct MethodSpec {
    entry: &'static Entry,
    count: usize,
}

impl MethodSpec {
    /// What it is called in a table.
    pub fn title(&self) -> &'static str {
        self.entry.title
    }

    /// The method for a classifier.
    ///
    /// # Errors
    /// [`AttributionError`] where the classifier has not what the method looks at.
    pub fn attributor(&self, setup: &Setup<'_>) -> Result<Box<dyn AttributionMethod>, AttributionError> {
        (self.entry.make)(setup, self.count)
    }
}

impl FromStr for MethodSpec {
    type Err = AttributionError;

    /// # Errors
    /// [`AttributionError::Unknown`] lists those there are; [`AttributionError::Parameter`] says what is expected behind
    /// the `@`.
    fn from_str(text: &str) -> Result<Self, AttributionError> {
        let (stem, number) = match text.trim().split_once('@') {
            Some((stem, number)) => (stem, Some(number)),
            None => (text.trim(), None),
        };
        let unknown = || AttributionError::Unknown { name: stem.into(), known: names() };
        let entry = METHODS.iter().find(|entry| entry.name == stem).ok_or_else(unknown)?;
        let wrong = |found: &str, expected: &str| AttributionError::Parameter {
            name: stem.into(),
            found: found.into(),
            expected: expected.into(),
        };
        let count = match (entry.count, number) {
            (Some((_, default)), None) => default,
            (None, None) => 0,
            (None, Some(found)) => return Err(wrong(found, "nothing: it has no parameter")),
            (Some(_), Some(found)) => {
                let count = found.parse().ok().filter(|count| (1..=1_000_000).contains(count));
                count.ok_or_else(|| wrong(found, "a whole number, 1 to 1000000"))?
            }
        };
        Ok(Self { entry, count })
    }
}

impl fmt::Display for MethodSpec {
    /// The name by which it is found again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry.count {
            Some((_, default)) if default != self.count => write!(f, "{}@{}", self.entry.name, self.count),
            _ => f.write_str(self.entry.name),
        }
    }
}

impl fmt::Debug for MethodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MethodSpec({self})")
    }
}

/// Every method with the form of its parameter: `rise[@MASKS]`.
pub fn names() -> Vec<String> {
    METHODS.iter().map(Entry::form).collect()
}
