//! A learned head with its classifier: from an artifact to heat maps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::batch::{Cost, ExplainBatch, Explanations};
use super::error::ExplainError;
use super::targets::{Targets, check};
use super::{Explain, computed};
use crate::artifact::{self, Artifact, BackboneMatch, BackboneRecord};
use crate::auxiliary::Auxiliary;
use crate::backbone::{Backbone, BackboneError, CountedBackbone};
use crate::device::Compute;
use crate::explainer::{ClassSelection, ExplainerHead};
use crate::feature_extractor::{FeatureExtractor, Features};
use crate::image::Preprocessing;
use crate::weights::source::Progress;

/// A trained head, the classifier that it explains, and all that is between them.
///
/// One forward pass explains an image, whatever the number of classes; P-TAME needs one more, of its auxiliary.
#[derive(Clone, Debug)]
pub struct Explainer {
    /// The head and its description.
    pub artifact: Artifact,
    /// The classifier, its taps and adapters, and P-TAME's auxiliary.
    pub extractor: FeatureExtractor,
    /// Where it computes.
    pub compute: Compute,
    /// Whether classifier and auxiliary are those of the training; [`BackboneMatch::Unverified`] deserves a warning.
    pub matched: Vec<BackboneMatch>,
}

/// Options for opening an [`Explainer`].
#[derive(Clone, Debug)]
pub struct ExplainerBuilder {
    folder: PathBuf,
    weights: Option<String>,
    auxiliary_weights: Option<String>,
    device: String,
    threads: Option<usize>,
}

impl ExplainerBuilder {
    /// Where the classifier's weights are, if not at the place that the artifact names: a file, `hf://...` or
    /// `https://...`.
    #[must_use]
    pub fn weights(mut self, source: impl Into<String>) -> Self {
        self.weights = Some(source.into());
        self
    }

    /// Where the weights of P-TAME's auxiliary are, likewise.
    #[must_use]
    pub fn auxiliary_weights(mut self, source: impl Into<String>) -> Self {
        self.auxiliary_weights = Some(source.into());
        self
    }

    /// Where to compute: `flex` (the CPU, the default), or a device that is compiled in, such as `cuda:0`.
    #[must_use]
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = name.into();
        self
    }

    /// CPU threads; all cores by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Opens the explainer; weights are downloaded if the artifact names a place in the network.
    ///
    /// # Errors
    /// As [`Explainer::load`]; [`ExplainError::Device`].
    pub fn open(self) -> Result<Explainer, ExplainError> {
        let compute = Compute::new(&self.device, self.threads)?;
        let (weights, auxiliary) = (self.weights.as_deref(), self.auxiliary_weights.as_deref());
        Explainer::load(&self.folder, weights, auxiliary, &compute, &mut |_, _| {})
    }
}

impl Explainer {
    /// Opens the artifact in `folder` (`artifact/` in the output of a run, or that output) and its classifier, on the CPU.
    ///
    /// # Errors
    /// As [`Explainer::load`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, ExplainError> {
        Self::builder(folder).open()
    }

    /// Options for opening an explainer.
    pub fn builder(folder: impl AsRef<Path>) -> ExplainerBuilder {
        ExplainerBuilder {
            folder: folder.as_ref().to_path_buf(),
            weights: None,
            auxiliary_weights: None,
            device: "flex".into(),
            threads: None,
        }
    }

    /// Opens the artifact in `folder` with its classifier, and its auxiliary if it has one. Their weights come from
    /// `weights` and `auxiliary_weights` where given, otherwise from where the artifact says. `progress` receives the bytes
    /// of downloads.
    ///
    /// # Errors
    /// [`ExplainError`] for an artifact that is not valid, weights that cannot be loaded, and weights with another SHA-256
    /// than those of the training.
    pub fn load(
        folder: &Path,
        weights: Option<&str>,
        auxiliary_weights: Option<&str>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Self, ExplainError> {
        let artifact = Artifact::load(&artifact::locate(folder)?, &compute.device)?;
        let config = &artifact.config;
        if config.auxiliary.is_none() && auxiliary_weights.is_some() {
            return Err(ExplainError::NoAuxiliary { method: config.method });
        }
        let prepared = &config.preprocessing;
        let backbone = load(&config.backbone, weights, Some(prepared), "--weights", compute, progress)?;
        let mut matched = vec![config.verify_backbone(backbone.spec())?];
        let mut auxiliary = None;
        if let (Some(record), Some(prepared)) = (&config.auxiliary, config.auxiliary_preprocessing()) {
            let option = "--auxiliary-weights";
            let second = load(&record.backbone, auxiliary_weights, Some(&prepared), option, compute, progress)?;
            matched.push(config.verify_auxiliary(second.spec())?);
            auxiliary = Some(Auxiliary::new(second, &config.taps, prepared)?);
        }
        let extractor = FeatureExtractor::new(backbone, prepared.clone(), &config.taps, auxiliary)?;
        Ok(Self { artifact, extractor, compute: compute.clone(), matched })
    }

    /// The clean pass of a batch, and the passes that it took.
    fn features(&self, batch: &ExplainBatch) -> (Features, Cost) {
        // Counters of this call alone, so that calls from several threads do not mix.
        let count = |backbone: &Arc<dyn Backbone>| Arc::new(CountedBackbone::new(backbone.clone()));
        let backbone = count(&self.extractor.backbone);
        let mut extractor = FeatureExtractor { backbone: backbone.clone(), ..self.extractor.clone() };
        let mut second = None;
        if let Some(auxiliary) = &mut extractor.auxiliary {
            let counted = count(&auxiliary.backbone);
            second = Some(counted.clone());
            auxiliary.backbone = counted;
        }
        let features = extractor.extract_normalised(batch.images.clone(), batch.pixels.clone());
        let passes = backbone.passes();
        let second = second.map_or(0, |counted| counted.passes().forward);
        (features, Cost { forward: passes.forward, backward: passes.backward, second, seconds: 0.0 })
    }

    /// Heat maps `[B,k,h,w]` in 0..=1 of k classes of each image.
    fn draw(&self, features: &Features, classes: &[Vec<usize>]) -> Tensor<4> {
        let (head, input, device) = (&self.artifact.head, features.input(), features.images.device());
        let maps = if classes.iter().all(|classes| classes.len() == 1) {
            head.maps(&input, ClassSelection::Each(indices(&classes.concat(), &device)))
        } else {
            // A head takes the same classes for every image of a batch: all that any image needs, each once.
            let all: Vec<usize> = classes.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
            select(head.maps(&input, ClassSelection::Of(indices(&all, &device))), &all, classes)
        };
        head.postprocess(maps)
    }
}

impl Explain for Explainer {
    fn name(&self) -> String {
        self.artifact.config.method.title().into()
    }

    fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.extractor.backbone
    }

    fn preprocessing(&self) -> &Preprocessing {
        &self.extractor.preprocessing
    }

    fn device(&self) -> Device {
        self.compute.device.clone()
    }

    fn maps(&self, batch: &ExplainBatch, classes: &[Vec<usize>]) -> Result<(Tensor<4>, Cost), ExplainError> {
        let explained = self.explain_batch(batch, Targets::Each(classes))?;
        Ok((explained.maps, explained.cost))
    }

    fn explain_batch(&self, batch: &ExplainBatch, targets: Targets<'_>) -> Result<Explanations, ExplainError> {
        // Known without a pass where the target is one class.
        if let Targets::Class(class) = targets {
            check(&[vec![class]], 1, self.artifact.config.head.classes())?;
        }
        let start = Instant::now();
        let (features, cost) = self.features(batch);
        let explained = Explanations::of(batch, features.logits.clone(), targets, |classes| {
            let maps = computed(self.draw(&features, classes));
            Ok((maps, Cost { seconds: start.elapsed().as_secs_f64(), ..cost }))
        })?;
        self.extractor.check_failures()?;
        Ok(explained)
    }

    fn with_backbone(&self, backbone: Arc<dyn Backbone>) -> Option<Arc<dyn Explain>> {
        let extractor = FeatureExtractor { backbone, ..self.extractor.clone() };
        Some(Arc::new(Self { extractor, ..self.clone() }))
    }

    fn class_names(&self) -> Option<&[String]> {
        self.artifact.config.class_names.as_deref()
    }
}

/// Loads the classifier that `record` names, from `weights` if that is given; `option` is the option of the command line
/// that gives it. `preprocessing` is for a TorchScript file that does not state its own.
///
/// # Errors
/// [`ExplainError::Weights`] where the weights are not at the recorded place, [`ExplainError::Backbone`].
pub fn load(
    record: &BackboneRecord,
    weights: Option<&str>,
    preprocessing: Option<&Preprocessing>,
    option: &'static str,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Arc<dyn Backbone>, ExplainError> {
    let loaded = record.clone().with_weights(weights).load(preprocessing, compute, progress);
    loaded.map_err(|source| match source {
        BackboneError::Source(_) if weights.is_none() => {
            let (backbone, weights) = (record.name.clone(), record.weights.clone());
            ExplainError::Weights { backbone, weights, source, option }
        }
        other => other.into(),
    })
}

/// From maps `[B,u,h,w]` of the classes `all`, in ascending order, those of each image's own `classes`: `[B,k,h,w]`.
fn select(maps: Tensor<4>, all: &[usize], classes: &[Vec<usize>]) -> Tensor<4> {
    let [batch, count, height, width] = maps.dims();
    let place = |class: &usize| all.partition_point(|other| other < class);
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
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::weights::source::SourceSettings;
    use crate::zoo;

    #[test]
    fn a_photograph_is_explained_in_one_pass() {
        let shipped = zoo::find("quickstart").unwrap().open(&SourceSettings::from_env(), &mut |_, _| {}).unwrap();
        let explainer = Explainer::builder(shipped.folder()).threads(1).open().unwrap();
        let image = RgbImage::from_fn(120, 100, |x, y| Rgb([2 * x as u8, 2 * y as u8, (x ^ y) as u8]));
        let best = explainer.explain(&image).unwrap();
        let three = explainer.explain_targets(&image, Targets::Top(3)).unwrap();
        assert_eq!((three.len(), three[0].class), (3, best.class));
        assert!(three[0].probability >= three[1].probability);
        assert!(best.map.values().iter().all(|value| (0.0..=1.0).contains(value)));
        let pixels = Tensor::full([2, 3, 96, 96], 0.4, &explainer.device());
        let batch = ExplainBatch::from_pixels(pixels, explainer.preprocessing());
        let cost = explainer.explain_batch(&batch, Targets::Top(2)).unwrap().cost;
        assert_eq!((cost.forward, cost.backward, cost.second), (2, 0, 0));
        let beyond = explainer.explain_targets(&image, Targets::Class(10)).unwrap_err().to_string();
        assert!(beyond.contains("no class 10; the classifier has 10"), "{beyond}");
    }

    #[test]
    fn each_image_gets_the_maps_of_its_own_classes() {
        let device = Device::default();
        // Image b, class c: the value 10 b + c.
        let values = vec![2.0_f32, 5.0, 7.0, 12.0, 15.0, 17.0];
        let maps = Tensor::from_data(TensorData::new(values, [2, 3, 1, 1]), &device);
        let picked = select(maps, &[2, 5, 7], &[vec![7, 2], vec![2, 5]]);
        assert_eq!(picked.dims(), [2, 2, 1, 1]);
        assert_eq!(picked.into_data().iter::<f32>().collect::<Vec<_>>(), [7.0, 2.0, 12.0, 15.0]);
    }
}
