//! An artifact from a head that was trained elsewhere.

use std::path::Path;

use explainer_zoo::artifact::{Artifact, ArtifactError, lightning};
use explainer_zoo::device::Compute;

use super::FitError;
use super::classifier::ExplainedClassifier;
use crate::config::{Config, ExplainerConfig};

/// What was made of a checkpoint.
#[derive(Debug)]
pub struct Imported {
    /// The head with all that the configuration says of it, to be saved.
    pub artifact: Artifact,
    /// How many tensors of the checkpoint are not the head's and were left out.
    pub ignored: usize,
}

/// Reads the attention head of a T-TAME or P-TAME checkpoint for the classifier, auxiliary, taps, method and masking of
/// `config`.
/// Its images are not opened; the head's size is the checkpoint's own.
///
/// # Errors
/// [`FitError`] if the classifier cannot be loaded, the checkpoint holds no head, or the two do not belong together.
pub fn import(config: &Config, checkpoint: &Path, compute: &Compute, quiet: bool) -> Result<Imported, FitError> {
    if let ExplainerConfig::MaskingModel(_) | ExplainerConfig::Bee(_) = &config.explainer {
        return Err(FitError::NoHead { method: config.explainer.method() });
    }
    let wrong = |key, found, expected: &str| ArtifactError::Value { key, found, expected: expected.into() };
    let classifier = ExplainedClassifier::load(config, compute, quiet)?;
    let side = classifier.extractor.preprocessing.crop;
    let lightning::Imported { head, ignored } =
        lightning::import(checkpoint, classifier.method, &classifier.extractor.tap_specs(), side, &compute.device)?;
    let shape = head.config().clone();
    if shape.branches == config.explainer.is_lcam() {
        let expected = if shape.branches {
            "ttame, tame or ptame: the checkpoint's head has attention branches"
        } else {
            "lcam_img or lcam_fm: the checkpoint's head has no attention branches"
        };
        return Err(wrong("method", classifier.method.to_string(), expected).into());
    }
    if let Some(own) = config.explainer.map_size()
        && shape.map_size != [own; 2]
    {
        let expected = format!("{}, the size that follows from the taps; remove explainer.map_size", shape.map_size[0]);
        return Err(wrong("head.map_size", own.to_string(), &expected).into());
    }
    let mut about = classifier.artifact_config(config, shape);
    // The weights are recorded from these very classifiers: only names, channels and classes can differ.
    let _ = about.verify_backbone(classifier.extractor.backbone.spec())?;
    if let Some(auxiliary) = &classifier.extractor.auxiliary {
        let _ = about.verify_auxiliary(auxiliary.backbone.spec())?;
    }
    let file = checkpoint.file_name().unwrap_or(checkpoint.as_os_str()).to_string_lossy();
    about.imported_from = Some(file.into_owned());
    Ok(Imported { artifact: Artifact { config: about, head: head.into() }, ignored })
}
