//! A trained explainer together with its classifier: images to probabilities, heat maps and metrics.

mod asked;
pub mod bee;
pub mod file_names;
mod names;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use explainer_attribution::AttributionError;
use explainer_zoo::adapter::{Adapter, NotSquare};
use explainer_zoo::artifact::{Artifact, ArtifactError, BackboneMatch, BackboneRecord};
use explainer_zoo::auxiliary::{Auxiliary, AuxiliaryError};
use explainer_zoo::backbone::{self, Backbone, BackboneError, TapId, check_failures};
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::bee::BeeError;
use explainer_zoo::explainer::{ClassSelection, ExplainerHead, ExplainerInput, Method};
use explainer_zoo::image::Preprocessing;
use explainer_zoo::path_integral::SiteError;
use explainer_zoo::weights::source::{Progress, WeightSource};

use crate::report::ReportError;
use crate::report::heat_map::HeatMap;
use explainer_metrics::GroundTruth;
use explainer_metrics::{CASCADE, ImageBatch, MetricError};

pub use asked::{LearnedExplainFn, MethodExplainFn};
pub use names::{ClassError, ClassNames};

/// Why an explainer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The folder holds no sound explainer, or its backbone is another one.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The weights of the backbone, or the auxiliary, are not where the artifact says.
    #[error(
        "cannot get the weights of {backbone} from {weights}: {source}; if they have moved, say where with {option}"
    )]
    Weights {
        /// The backbone.
        backbone: String,
        /// The place that the artifact names.
        weights: String,
        /// What is wrong with it.
        source: BackboneError,
        /// The option of the command line that says where they are.
        option: &'static str,
    },
    /// A place was given for the weights of an auxiliary that is not there.
    #[error("--auxiliary-weights: {method} explainers have no auxiliary classifier; leave it out")]
    NoAuxiliary {
        /// The explainer's method.
        method: Method,
    },
    /// The auxiliary does not go with the explainer's images or taps.
    #[error(transparent)]
    Auxiliary(#[from] AuxiliaryError),
    /// The backbone cannot be had.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A tap cannot become a map at the artifact's image size.
    #[error(transparent)]
    Adapter(#[from] NotSquare),
    /// The explanations cannot be measured.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// A method to compare with cannot explain this classifier.
    #[error(transparent)]
    Attribution(#[from] AttributionError),
    /// BEE has no such mixture, or cannot draw.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// A path of BEE's cannot run where the artifact says.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// A map that is none.
    #[error(transparent)]
    Map(#[from] ReportError),
    /// A place was given for the weights of a context that is not there.
    #[error("--context-weights: this explainer takes its context from the classifier itself; leave it out")]
    NoContext,
    /// A class index beyond the classifier's classes.
    #[error("there is no class {class}; the classifier has {classes}, 0 to {last}", last = classes.saturating_sub(1))]
    NoClass {
        /// What was asked for.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
}

/// Which classes of an image are explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The most probable ones, this many (or all, if there are fewer), best first; of equals the lower index first.
    Top(usize),
    /// This one, by its index.
    Class(usize),
}

impl Target {
    /// The classes to explain of an image with these probabilities.
    fn of(self, probabilities: &[f32]) -> Vec<usize> {
        match self {
            Self::Class(class) => vec![class],
            Self::Top(count) => {
                let mut order: Vec<usize> = (0..probabilities.len()).collect();
                order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
                order.truncate(count);
                order
            }
        }
    }
}

/// An explainer and all that it needs to explain.
#[derive(Clone, Debug)]
pub struct LoadedExplainer {
    /// The head and its description.
    pub artifact: Artifact,
    /// The classifier it explains.
    pub backbone: Arc<dyn Backbone>,
    /// The classifier's taps, in the head's order; none where the head looks at an auxiliary's.
    pub taps: Vec<TapId>,
    /// How each becomes a map.
    pub adapters: Vec<Adapter>,
    /// The classifier whose feature maps the head looks at, if it is another one (P-TAME).
    pub auxiliary: Option<Auxiliary>,
    /// Where all of it is computed.
    pub compute: Compute,
    /// How surely classifier and auxiliary are those that the explainer was trained on; what is unverified deserves a
    /// warning.
    pub matched: Vec<BackboneMatch>,
}

/// Where weights are that are no longer at the places that an artifact names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The explained classifier's.
    pub backbone: Option<&'a str>,
    /// The auxiliary's.
    pub auxiliary: Option<&'a str>,
}

/// Images with the maps of some of their classes. B images, k classes each.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The explained classes of each image, `B` times `k`.
    pub classes: Vec<Vec<usize>>,
    /// Their softmax probabilities in 0..=1, in the same order.
    pub probabilities: Vec<Vec<f32>>,
    /// Their maps `[B,k,h,w]` in 0..=1, as the method shows them: stretched, each on its own, or masks as they are.
    pub maps: Tensor<4>,
}

/// The map of one class of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// The class.
    pub class: usize,
    /// Its softmax probability in 0..=1.
    pub probability: f32,
    /// Its map `[h,w]` in 0..=1, at the explainer's resolution.
    pub map: HeatMap,
}

impl LoadedExplainer {
    /// Opens the artifact in `folder` and loads its classifier and its auxiliary, if it has one, from where `moved`
    /// says, otherwise from the places that the artifact names. `progress` is told of downloads.
    ///
    /// # Errors
    /// Any of [`ExplainError`] but `NoClass`; weights with another SHA-256 than those of the training are refused.
    pub fn open(
        folder: &Path,
        moved: Moved<'_>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Self, ExplainError> {
        let artifact = Artifact::load(folder, &compute.device)?;
        let config = &artifact.config;
        if config.auxiliary.is_none() && moved.auxiliary.is_some() {
            return Err(ExplainError::NoAuxiliary { method: config.method });
        }
        let prepared = Some(&config.preprocessing);
        let backbone = load(&config.backbone, moved.backbone, prepared, "--weights", compute, progress)?;
        let mut matched = vec![config.verify_backbone(backbone.spec())?];
        let mut auxiliary = None;
        if let (Some(record), Some(preprocessing)) = (&config.auxiliary, config.auxiliary_preprocessing()) {
            let prepared = Some(&preprocessing);
            let lends = load(&record.backbone, moved.auxiliary, prepared, "--auxiliary-weights", compute, progress)?;
            matched.push(config.verify_auxiliary(lends.spec())?);
            auxiliary = Some(Auxiliary::new(lends, &config.taps, preprocessing)?);
        }
        let taps = if auxiliary.is_none() { backbone.taps(&config.taps)? } else { Vec::new() };
        let side = config.preprocessing.crop;
        let adapters = taps.iter().map(|tap| Adapter::new(backbone.tap(*tap), side)).collect::<Result<_, _>>()?;
        Ok(Self { artifact, backbone, taps, adapters, auxiliary, compute: compute.clone(), matched })
    }

    /// Explains images `[B,3,H,W]` in 0..=1, cropped as the artifact's preprocessing has it, in one forward pass, with
    /// an auxiliary in one of each classifier.
    ///
    /// # Errors
    /// [`ExplainError::NoClass`].
    pub fn maps(&self, pixels: Tensor<4>, which: Target) -> Result<Explained, ExplainError> {
        let config = &self.artifact.config;
        if let Target::Class(class) = which
            && class >= config.head.classes()
        {
            return Err(ExplainError::NoClass { class, classes: config.head.classes() });
        }
        let images = config.preprocessing.normalise(pixels.clone());
        let Seen { logits, features } = self.see(images.clone(), pixels);
        let [_, count] = logits.dims();
        let scores: Vec<f32> = softmax(logits.clone(), 1).into_data().iter::<f32>().collect();
        let rows = || scores.chunks(count.max(1));
        let classes: Vec<Vec<usize>> = rows().map(|row| which.of(row)).collect();
        let probabilities: Vec<Vec<f32>> =
            rows().zip(&classes).map(|(row, classes)| classes.iter().map(|&class| row[class]).collect()).collect();
        let maps = self.draw(&images, &features, &classes);
        self.check_failures()?;
        Ok(Explained { images, logits, classes, probabilities, maps })
    }

    /// Whether the classifiers have answered since the last time they were asked.
    fn check_failures(&self) -> Result<(), BackboneError> {
        check_failures([&self.backbone].into_iter().chain(self.auxiliary.as_ref().map(|auxiliary| &auxiliary.backbone)))
    }

    /// What classifier and head see of normalised images `[B,3,H,W]`, which are `pixels` in 0..=1.
    fn see(&self, images: Tensor<4>, pixels: Tensor<4>) -> Seen {
        let seen = self.backbone.forward(images, &self.taps);
        let features = match &self.auxiliary {
            Some(auxiliary) => auxiliary.features(pixels),
            None => self.adapters.iter().zip(seen.taps).map(|(adapter, tap)| adapter.apply(tap)).collect(),
        };
        Seen { logits: seen.logits, features }
    }

    /// Maps `[B,k,h,w]` in 0..=1 of the k classes of each image, as they are shown.
    fn draw(&self, images: &Tensor<4>, features: &[Tensor<4>], classes: &[Vec<usize>]) -> Tensor<4> {
        let (head, view, device) = (&self.artifact.head, ExplainerInput { images, features }, images.device());
        let maps = if classes.iter().all(|classes| classes.len() == 1) {
            head.maps(&view, ClassSelection::Each(indices(&classes.concat(), &device)))
        } else {
            // The same classes for every image of the batch: all that any of them asks for, each once.
            let drawn: Vec<usize> = classes.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
            own(head.maps(&view, ClassSelection::Of(indices(&drawn, &device))), &drawn, classes)
        };
        head.postprocess(maps)
    }

    /// The explainer before classifiers of which ever more is random: a [`CASCADE`]. The classifier's weights are read
    /// anew, from where `moved` says or the artifact; head and auxiliary stay as they are.
    ///
    /// # Errors
    /// As [`LoadedExplainer::open`].
    pub fn randomised(&self, moved: Moved<'_>, progress: &mut Progress<'_>) -> Result<Vec<Self>, ExplainError> {
        let BackboneRecord { name, weights, sha256 } = &self.artifact.config.backbone;
        let (place, sha256) = place(weights, moved.backbone, sha256.as_deref());
        let cascade = backbone::cascade(name, place, sha256, &CASCADE, &self.compute, progress)?;
        Ok(cascade.into_iter().map(|random| Self { backbone: Arc::new(random), ..self.clone() }).collect())
    }

    /// Images `[B,3,H,W]` in 0..=1, what is known of each apart from its pixels, and the maps of their predicted classes
    /// `[B,1,h,w]`, for `measure` to measure, these maps and others of the same images; as many perturbed images as there
    /// are images here are in memory at a time.
    ///
    /// # Errors
    /// What `measure` returns.
    pub fn with_subject<R>(
        &self,
        pixels: Tensor<4>,
        truth: Vec<GroundTruth>,
        measure: impl FnOnce(&ImageBatch<'_>, Tensor<4>) -> Result<R, ExplainError>,
    ) -> Result<R, ExplainError> {
        let Explained { images, logits, classes, maps, .. } = self.maps(pixels, Target::Top(1))?;
        let [batch, ..] = images.dims();
        // The artifact's mean and standard deviation, with which the images were normalised, not the registry's.
        let preprocessing = &self.artifact.config.preprocessing;
        let subject = ImageBatch::new(self.backbone.as_ref(), preprocessing, images, logits, classes.concat())?;
        let subject =
            subject.with_ground_truth(truth)?.with_batch_size(NonZeroUsize::new(batch).unwrap_or(NonZeroUsize::MIN));
        let measured = measure(&subject, maps);
        // Where a classifier did not answer, whatever went wrong afterwards went wrong for that.
        self.check_failures()?;
        measured
    }
}

/// What a classifier and a head see of images.
struct Seen {
    /// `[B,K]`
    logits: Tensor<2>,
    /// `[B,C,h,w]` of each tap.
    features: Vec<Tensor<4>>,
}

impl Explained {
    /// The maps on the host: for each image one a class, in the order of the classes.
    ///
    /// # Errors
    /// [`ReportError::Shape`] for maps without a single cell.
    pub fn per_image(&self) -> Result<Vec<Vec<ClassMap>>, ReportError> {
        let [_, _, height, width] = self.maps.dims();
        let values: Vec<f32> = self.maps.to_data().iter::<f32>().collect();
        let mut maps = values.chunks((height * width).max(1));
        let image = |(classes, probabilities): (&Vec<usize>, &Vec<f32>)| {
            let maps = maps.by_ref().take(classes.len());
            classes
                .iter()
                .zip(probabilities)
                .zip(maps)
                .map(|((&class, &probability), values)| {
                    Ok(ClassMap { class, probability, map: HeatMap::new(height, width, values.to_vec())? })
                })
                .collect::<Result<Vec<_>, ReportError>>()
        };
        self.classes.iter().zip(&self.probabilities).map(image).collect()
    }
}

/// The classifier that `record` names, from `moved` if that is given; `option` is how to give it. `prepared` is for a
/// TorchScript that does not say how it wants its images.
fn load(
    record: &BackboneRecord,
    moved: Option<&str>,
    prepared: Option<&Preprocessing>,
    option: &'static str,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Arc<dyn Backbone>, ExplainError> {
    let BackboneRecord { name, weights, sha256 } = record;
    let (place, sha256) = place(weights, moved, sha256.as_deref());
    backbone::open(name, place, sha256, prepared, compute, progress).map_err(|source| match source {
        BackboneError::Source(_) if moved.is_none() => {
            ExplainError::Weights { backbone: name.clone(), weights: place.into(), source, option }
        }
        other => other.into(),
    })
}

/// Where weights are to be had, and the SHA-256 that they must have, if that is known of them.
fn place<'a>(weights: &'a str, moved: Option<&'a str>, sha256: Option<&'a str>) -> (&'a str, Option<&'a str>) {
    let place = moved.unwrap_or(weights);
    // Weights that are no file have none to check beforehand; they are compared afterwards.
    let no_file = matches!(place.parse::<WeightSource>(), Ok(WeightSource::Embedded | WeightSource::Random { .. }));
    (place, sha256.filter(|_| !no_file))
}

/// From maps `[B,u,h,w]` of the classes `drawn`, in ascending order, those of each image's own `classes`: `[B,k,h,w]`.
fn own(maps: Tensor<4>, drawn: &[usize], classes: &[Vec<usize>]) -> Tensor<4> {
    let [batch, count, height, width] = maps.dims();
    let place = |class: &usize| drawn.partition_point(|other| other < class);
    let places: Vec<usize> = classes
        .iter()
        .enumerate()
        .flat_map(|(image, classes)| classes.iter().map(move |class| image * count + place(class)))
        .collect();
    let each = places.len() / batch.max(1);
    let device = maps.device();
    maps.reshape([batch * count, height, width])
        .select(0, indices(&places, &device))
        .reshape([batch, each, height, width])
}

/// Indices as a tensor.
fn indices(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    Tensor::from_data(TensorData::new(values, [indices.len()]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_come_first_and_of_equals_the_lower_index() {
        let probabilities = [0.2, 0.3, 0.2, 0.3];
        assert_eq!(Target::Top(3).of(&probabilities), [1, 3, 0]);
        assert_eq!(Target::Top(9).of(&probabilities), [1, 3, 0, 2]);
        assert_eq!(Target::Class(2).of(&probabilities), [2]);
    }

    #[test]
    fn each_image_gets_the_maps_of_its_own_classes() {
        let device = Device::default();
        // Image b, drawn class d: the value 10 b + d.
        let values = vec![2.0_f32, 5.0, 7.0, 12.0, 15.0, 17.0];
        let maps = Tensor::from_data(TensorData::new(values, [2, 3, 1, 1]), &device);
        let picked = own(maps, &[2, 5, 7], &[vec![7, 2], vec![2, 5]]);
        assert_eq!(picked.dims(), [2, 2, 1, 1]);
        assert_eq!(picked.into_data().iter::<f32>().collect::<Vec<_>>(), [7.0, 2.0, 12.0, 15.0]);
    }

    #[test]
    fn maps_come_to_the_host_with_their_class() {
        let device = Device::default();
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        let explained = Explained {
            images: Tensor::zeros([2, 3, 4, 4], &device),
            logits: Tensor::zeros([2, 9], &device),
            classes: vec![vec![3, 1], vec![0, 8]],
            probabilities: vec![vec![0.5, 0.25], vec![0.75, 0.125]],
            maps: Tensor::from_data(TensorData::new(values, [2, 2, 1, 2]), &device),
        };
        let images = explained.per_image().unwrap();
        let map = HeatMap::new(1, 2, vec![4.0, 5.0]).unwrap();
        assert_eq!(images[1][0], ClassMap { class: 0, probability: 0.75, map });
        assert_eq!((images[0][1].class, images[0][1].map.values()), (1, &[2.0, 3.0][..]));
    }
}
