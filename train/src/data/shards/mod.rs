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

use explainer_zoo::image::{Crop, Pixels, Preprocessing, decode_bytes};
use rayon::prelude::*;

use super::{DataError, ImageSet};
use index::Sample;

/// Photographs in tar files, decoded anew each time they are asked for.
#[derive(Clone, Debug)]
pub struct ShardSet {
    /// As they were named.
    shards: Vec<PathBuf>,
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
    /// links, paths that lead out of it, or an image of more than [`index::LARGEST`] bytes; [`DataError::NoImages`].
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
        Ok(Self { shards, starts, samples, preprocessing })
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
        let shard = self.shard(index).file_name().unwrap_or_default().to_string_lossy();
        format!("{shard}:{}", self.samples[index].name)
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
        let Sample { offset, length, .. } = self.samples[index];
        let read = || {
            let mut file = File::open(self.shard(index))?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            read().map_err(|source| explainer_zoo::image::ImageError::Read { name: self.name(index), source })?;
        Ok(self.preprocessing.apply(&decode_bytes(&bytes, &self.name(index))?, crop)?)
    }
}

#[cfg(test)]
mod tests;
