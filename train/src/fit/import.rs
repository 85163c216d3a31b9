//! An artifact from a head that was trained elsewhere.

use std::path::Path;

use explainer_zoo::artifact::{Artifact, ArtifactError, lightning};
use explainer_zoo::device::Compute;
use explainer_zoo::explainer::TameConfig;

use super::FitError;
use super::classifier::ExplainedClassifier;
use crate::config::Config;

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
    let wrong = |key, found, expected: &str| ArtifactError::Value { key, found, expected: expected.into() };
    let method = config.explainer.method();
    let explainer = config.explainer.learned().ok_or(FitError::NoHead { method })?;
    let classifier = ExplainedClassifier::load(config, compute, quiet)?;
    let (taps, side) = (classifier.extractor.tap_specs(), classifier.extractor.preprocessing.crop);
    let key = "taps";
    let expected = explainer.shape(&taps, 1, side).map_err(|source| FitError::Shape { key, source })?;
    let expected = <&TameConfig>::try_from(&expected).map_err(|_| FitError::NoHead { method })?;
    let lightning::Imported { head, ignored } = lightning::import(checkpoint, method, &taps, side, &compute.device)?;
    let shape = head.config().clone();
    if shape.branches != expected.branches {
        let expected = if shape.branches {
            "ttame, tame or ptame: the checkpoint's head has attention branches"
        } else {
            "lcam_img or lcam_fm: the checkpoint's head has no attention branches"
        };
        return Err(wrong("method", method.to_string(), expected).into());
    }
    if shape.map_size != expected.map_size {
        let [own, _] = expected.map_size;
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
