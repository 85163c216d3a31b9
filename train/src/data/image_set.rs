//! The interface of image sets.

use std::fmt::Debug;

use explainer_zoo::image::{Crop, Pixels};
use sha2::{Digest, Sha256};

use super::error::DataError;

/// A set of images with indices `0..len()`, which worker threads load in any order.
pub trait ImageSet: Debug + Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether the set has no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of image `index` in messages: a path, or a description.
    fn name(&self, index: usize) -> String;

    /// The identifier of image `index`: unique in the set, and the same if the set is moved.
    fn id(&self, index: usize) -> String {
        self.name(index)
    }

    /// The SHA-256 of the set, 64 hexadecimal digits: by default of the identifiers in their order.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for name in (0..self.len()).map(|index| self.id(index)) {
            hash.update((name.len() as u64).to_le_bytes()); // so that no two lists of names have the same bytes
            hash.update(name);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The labelled class of image `index`, if the set has labels.
    fn class(&self, index: usize) -> Option<usize>;

    /// The names of the classes by index; empty if the set has no names.
    fn classes(&self) -> &[String];

    /// The index of the first image of each shard, that is of the images of one tar file; empty if the set has no shards.
    fn shard_starts(&self) -> &[usize] {
        &[]
    }

    /// What was skipped when the set was opened, one message for each kind.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// Image `index`, resized and cropped. All images of a set have the same size.
    ///
    /// # Errors
    /// A [`DataError`] that names the image. The loader skips and counts the image.
    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError>;

    /// The mask of the object in the crop, `height * width` flags row by row, if the set knows it.
    fn object(&self, _index: usize, _crop: Crop) -> Option<Vec<bool>> {
        None
    }
}
