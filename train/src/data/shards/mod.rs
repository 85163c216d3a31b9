//! Images in tar files, the layout of WebDataset: files of one name but for their endings are a sample, here an image
//! (`.jpg`, `.jpeg`, `.png`, `.webp`) and, if there is one, its class (`.cls`, an integer in plain text). Files with other
//! endings are passed over.
//!
//! Only the tar headers are read when a set is opened, so that the number of samples is known and any of them can be read:
//! a run goes on at the sample where it was stopped. Images stay in the shards and nothing is unpacked.

mod index;
mod pattern;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use explainer_zoo::image::{Crop, ImageError, Pixels, Preprocessing, decode_bytes, dimensions_of};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{DataError, ImageSet, Objects};
use explainer_metrics::GroundTruth;
use index::Sample;

/// Photographs in tar files, decoded anew each time they are asked for.
#[derive(Clone, Debug)]
pub struct ShardSet {
    /// As they were named.
    shards: Vec<PathBuf>,
    /// The folder that all of them lie in.
    root: PathBuf,
    /// Number of the first sample of each shard.
    starts: Vec<usize>,
    samples: Vec<Sample>,
    preprocessing: Preprocessing,
}

impl ShardSet {
    /// Whether a place is meant as shards: `train.tar`, `train-{0000..1281}.tar`.
    #[must_use]
    pub fn is_meant(place: &Path) -> bool {
        place.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar")) && !place.is_dir()
    }

    /// Opens a tar file, or all that a pattern names: `{0000..1281}` stands for the numbers from 0 to 1281 in four digits.
    /// No image is read yet.
    ///
    /// # Errors
    /// [`DataError::Shard`] for a pattern that makes no sense, a shard that is missing, cut off, no tar file, or holds
    /// links, paths that lead out of it, or an image of more than 256 MiB; [`DataError::NoImages`].
    pub fn open(place: &Path, preprocessing: Preprocessing) -> Result<Self, DataError> {
        let shards = pattern::expand(place)?;
        let found = shards.par_iter().map(|shard| index::samples(shard)).collect::<Result<Vec<_>, _>>()?;
        let (mut starts, mut samples) = (Vec::with_capacity(shards.len()), Vec::new());
        for shard in found {
            starts.push(samples.len());
            samples.extend(shard);
        }
        if samples.is_empty() {
            let expected =
                "expected samples of an image (.jpg, .jpeg, .png or .webp) and, if it has one, its class (.cls)";
            return Err(DataError::NoImages { path: place.into(), expected: expected.into() });
        }
        Ok(Self { root: pattern::root(place), shards, starts, samples, preprocessing })
    }

    /// What `objects` knows of image `index`: under its name in the set, or under its path or its file's name in the shard.
    ///
    /// # Errors
    /// Annotations, or an image, that cannot be read.
    pub fn truth(&self, index: usize, objects: &Objects) -> Result<GroundTruth, DataError> {
        let name = &self.samples[index].name;
        let file = name.rsplit('/').next().unwrap_or(name);
        let size = || Ok(dimensions_of(&self.bytes(index)?, &self.name(index))?);
        objects.truth_of(&[&self.id(index), name], file, size, &self.preprocessing)
    }

    /// The file of image `index`.
    fn bytes(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let Sample { offset, length, .. } = self.samples[index];
        let read = || {
            let mut file = File::open(self.shard(index))?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| ImageError::Read { name: self.name(index), source }.into())
    }

    /// The shard of image `index`.
    fn shard(&self, index: usize) -> &Path {
        let after = self.starts.partition_point(|start| *start <= index);
        &self.shards[after - 1]
    }
}

impl ImageSet for ShardSet {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn name(&self, index: usize) -> String {
        format!("{}:{}", self.shard(index).display(), self.samples[index].name)
    }

    fn id(&self, index: usize) -> String {
        let shard = self.shard(index);
        format!("{}:{}", shard.strip_prefix(&self.root).unwrap_or(shard).display(), self.samples[index].name)
    }

    /// Of names, places and sizes: samples are often numbered, so that other shards may have the same names.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (index, sample) in self.samples.iter().enumerate() {
            let name = self.id(index);
            for number in [name.len() as u64, sample.offset, sample.length as u64] {
                hash.update(number.to_le_bytes());
            }
            hash.update(name);
        }
        self.starts.iter().for_each(|start| hash.update((*start as u64).to_le_bytes()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.samples[index].class
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn stretches(&self) -> &[usize] {
        &self.starts
    }

    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
        Ok(self.preprocessing.apply(&decode_bytes(&self.bytes(index)?, &self.name(index))?, crop)?)
    }
}

#[cfg(test)]
mod tests;
