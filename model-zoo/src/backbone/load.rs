//! A backbone by its name and the place of its weights.

use super::registry::{architecture, names};
use super::{Architecture, BackboneError, Frozen};
use crate::device::Compute;
use crate::weights::WeightReader;
use crate::weights::source::{Progress, SourceSettings, WeightSource};

/// The weights of the quickstart's classifier, built into the program.
const SHAPES_RESNET: &[u8] = include_bytes!("../../assets/shapes_resnet.safetensors");

/// Loads backbone `name` from `weights` (any form of [`WeightSource`]) and checks the SHA-256 if one is given.
///
/// `progress` is told of a download's bytes done and, where known, in all.
///
/// # Errors
/// [`BackboneError`] says which of name, source, checksum or tensors is wrong.
pub fn load(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Frozen, BackboneError> {
    let (architecture, reader, digest) = open(name, weights, sha256, compute, progress)?;
    Frozen::new(architecture, reader, digest, compute)
}

/// An architecture, a reader of its weights, and the SHA-256 of the file that they are in.
pub(super) fn open(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<(Architecture, WeightReader, Option<String>), BackboneError> {
    let architecture = architecture(name)
        .ok_or_else(|| BackboneError::UnknownBackbone { name: name.into(), known: names().to_vec() })?;
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
