//! Loads a backbone by its name and the source of its weights.

use std::sync::Arc;

use super::registry::{architecture, names};
use super::torchscript::{self, TorchScriptError};
use super::{Architecture, Backbone, BackboneError, Frozen};
use crate::device::Compute;
use crate::image::Preprocessing;
use crate::weights::WeightReader;
use crate::weights::source::{Progress, SourceSettings, WeightSource};

/// The weights of the quickstart's classifier, built into the program.
const SHAPES_RESNET: &[u8] = include_bytes!("../../assets/shapes_resnet.safetensors");

/// Opens backbone `name`, an architecture's or [`torchscript::NAME`], from `weights` (any form of [`WeightSource`]) and
/// checks the SHA-256 if one is given.
///
/// A TorchScript is the whole classifier in one file; `preprocessing` overrides that of its metadata. An architecture has its
/// own. `progress` gets the number of bytes downloaded and, if known, the total.
///
/// # Errors
/// [`BackboneError`] names what is wrong: name, source, checksum, tensors or program.
pub fn open(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    preprocessing: Option<&Preprocessing>,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Arc<dyn Backbone>, BackboneError> {
    if name != torchscript::NAME {
        return Ok(Arc::new(load(name, weights, sha256, compute, progress)?));
    }
    if !cfg!(feature = "tch") {
        return Err(TorchScriptError::NotBuilt.into());
    }
    let source: WeightSource = weights.parse()?;
    source.check(sha256)?;
    if matches!(source, WeightSource::Embedded | WeightSource::Random { .. }) {
        return Err(TorchScriptError::NoFile(source).into());
    }
    let found = source.resolve(sha256, &SourceSettings::from_env(), progress)?;
    torchscript::load(&found.path, found.sha256, preprocessing, compute)
}

/// Loads the architecture `name` from `weights` (any form of [`WeightSource`]) and checks the SHA-256 if one is given.
///
/// `progress` gets the number of bytes downloaded and, if known, the total.
///
/// # Errors
/// [`BackboneError`] names what is wrong: name, source, checksum or tensors.
pub fn load(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Frozen, BackboneError> {
    let (architecture, reader, digest) = read(name, weights, sha256, compute, progress)?;
    Frozen::new(architecture, reader, digest, compute)
}

/// An architecture, a reader of its weights, and the SHA-256 of their file.
pub(super) fn read(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<(Architecture, WeightReader, Option<String>), BackboneError> {
    let architecture = architecture(name).ok_or_else(|| BackboneError::unknown(name))?;
    let source: WeightSource = weights.parse()?;
    source.check(sha256)?;
    let device = &compute.device;
    let (reader, digest) = match &source {
        WeightSource::Embedded if name == "shapes_resnet" => (
            WeightReader::from_bytes(SHAPES_RESNET, "embedded", device)?,
            Some(crate::weights::hash::sha256(SHAPES_RESNET)),
        ),
        WeightSource::Embedded => return Err(BackboneError::NotEmbedded { name: name.into() }),
        WeightSource::Random { seed } => {
            let seed = *seed;
            let random = move |name: &str, shape: &[usize]| crate::weights::random::values(seed, name, shape);
            (WeightReader::generated(Box::new(random), device), None)
        }
        _ => {
            let found = source.resolve(sha256, &SourceSettings::from_env(), progress)?;
            (WeightReader::open(&found.path, device)?, Some(found.sha256))
        }
    };
    Ok((architecture, reader, digest))
}

impl BackboneError {
    /// The error for an unknown name.
    pub fn unknown(name: &str) -> Self {
        let known = names().into_iter().chain([torchscript::NAME]).collect();
        Self::UnknownBackbone { name: name.into(), known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, weights: &str) -> String {
        open(name, weights, None, None, &Compute::default(), &mut |_, _| {}).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let text = refused("resnet51", "random");
        assert!(text.contains("shapes_resnet, torchscript") && text.ends_with("did you mean `resnet50`?"), "{text}");
    }

    #[cfg(not(feature = "tch"))]
    #[test]
    fn a_torchscript_without_libtorch_says_how_to_build() {
        let text = refused("torchscript", "/nonexistent/model.pt");
        assert!(text.contains("scripts/libtorch") && text.contains("--features tch"), "{text}");
    }

    #[cfg(feature = "tch")]
    #[test]
    fn a_torchscript_is_a_file() {
        for weights in ["random:3", "embedded"] {
            let text = refused("torchscript", weights);
            assert!(text.contains(weights) && text.contains("expected a TorchScript file"), "{text}");
        }
    }
}
