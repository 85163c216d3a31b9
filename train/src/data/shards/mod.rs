//! Images in tar shards, in the layout of WebDataset. Files of the same name with different extensions are a sample: an
//! image (`.jpg`, `.jpeg`, `.png`, `.webp`) and optionally its class (`.cls`, an integer in plain text). Files with other
//! extensions are skipped.
//!
//! Only the tar headers are read when a set is opened. Then the number of samples is known and each of them can be read at
//! random, so a run resumes at any sample. Images are read from the shards; nothing is unpacked.

mod compression;
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
use index::{Sample, Skipped};

/// Images in tar shards. Every [`load`](ImageSet::load) decodes the image.
#[derive(Clone, Debug)]
pub struct ShardSet {
    /// Their paths, as given.
    shards: Vec<PathBuf>,
    /// The folder of all shards.
    root: PathBuf,
    /// Index of the first sample of each shard.
    starts: Vec<usize>,
    samples: Vec<Sample>,
    preprocessing: Preprocessing,
    notes: Vec<String>,
}

impl ShardSet {
    /// Whether a path names shards: `train.tar`, `train-{0000..1281}.tar`. Compressed ones, such as `train.tar.gz`, are named
    /// too, so that [`ShardSet::open`] can refuse them with the remedy.
    #[must_use]
    pub fn is_shard_pattern(path: &Path) -> bool {
        const ENDINGS: [&str; 11] = [
            ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.lz4",
        ];
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        ENDINGS.iter().any(|ending| name.ends_with(ending)) && !path.is_dir()
    }

    /// Opens a tar file, or all tar files of a pattern: `{0000..1281}` stands for the numbers 0 to 1281 in four digits. No
    /// image is read.
    ///
    /// # Errors
    /// [`DataError::Shard`] for a pattern that cannot be parsed, and for a shard that is missing, truncated or not a tar file,
    /// or that has links, paths outside of it, or an image of more than 256 MiB; [`DataError::NoImages`].
    pub fn open(path: &Path, preprocessing: Preprocessing) -> Result<Self, DataError> {
        let shards = pattern::expand(path)?;
        let found = shards.par_iter().map(|shard| index::read(shard)).collect::<Result<Vec<_>, _>>()?;
        let (mut starts, mut samples) = (Vec::with_capacity(shards.len()), Vec::new());
        let mut skipped = Skipped::default();
        for shard in found {
            starts.push(samples.len());
            samples.extend(shard.samples);
            skipped.add(shard.skipped);
        }
        let notes = skipped.notes(path);
        if samples.is_empty() {
            let expected =
                "expected samples of an image (.jpg, .jpeg, .png or .webp) and, if it has one, its class (.cls)";
            let expected = [&[expected.to_owned()], notes.as_slice()].concat().join("; ");
            return Err(DataError::NoImages { path: path.into(), expected });
        }
        Ok(Self { root: pattern::root(path), shards, starts, samples, preprocessing, notes })
    }

    /// The ground truth of image `index` in `objects`, which may name it by its identifier, by its path in the shard or by
    /// its file name.
    ///
    /// # Errors
    /// Annotations, or an image, that cannot be read.
    pub fn truth(&self, index: usize, objects: &Objects) -> Result<GroundTruth, DataError> {
        let name = &self.samples[index].name;
        let file = name.rsplit('/').next().unwrap_or(name);
        let size = || Ok(dimensions_of(&self.bytes(index)?, &self.name(index))?);
        objects.truth_of(&[&self.id(index), name], file, size, &self.preprocessing)
    }

    /// The encoded bytes of image `index`.
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

    /// The digest of names, offsets and lengths: samples are often numbered, so names alone are not unique.
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

    fn shard_starts(&self) -> &[usize] {
        &self.starts
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
        Ok(self.preprocessing.apply(&decode_bytes(&self.bytes(index)?, &self.name(index))?, crop)?)
    }
}

#[cfg(test)]
mod tests;
