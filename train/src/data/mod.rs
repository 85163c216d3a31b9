//! Photographs to batches: sets of images, their order, and the threads that decode them ahead of the training step.
//!
//! Everything random is a pure function of (seed, purpose, epoch, index): a resumed run needs no more than the number
//! of the batch to go on from, and the number of worker threads changes nothing but the speed.

mod batch;
mod error;
mod files;
mod folder;
mod given;
mod list;
mod loader;
mod objects;
mod order;
mod place;
mod plan;
mod scenes;
pub mod shapes;
mod shards;
mod subset;
mod tally;

use std::fmt::Debug;

use explainer_zoo::image::{Crop, Pixels};
use sha2::{Digest, Sha256};

pub use batch::Batch;
pub use error::DataError;
pub use files::FileSet;
pub use given::Images;
pub(crate) use given::scenes as scenes_given;
pub use loader::Loader;
pub use objects::Objects;
pub use order::{Augment, Order};
pub use place::open;
pub use plan::Plan;
pub use scenes::Scenes;
pub use shards::ShardSet;
pub use subset::Subset;
pub use tally::{Broken, Tally};

/// A set of images, numbered `0..len()`, that worker threads load in any order.
pub trait ImageSet: Debug + Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What messages call image `index`: a path, or a description.
    fn name(&self, index: usize) -> String;

    /// What tells image `index` from the others of the set, wherever the set lies.
    fn id(&self, index: usize) -> String {
        self.name(index)
    }

    /// A SHA-256 that tells this set from another: of what its images are known by, in their order, unless a set knows
    /// better.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for name in (0..self.len()).map(|index| self.id(index)) {
            hash.update((name.len() as u64).to_le_bytes()); // so that no two lists of names are the same bytes
            hash.update(name);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The labelled class of image `index`, where the set has labels.
    fn class(&self, index: usize) -> Option<usize>;

    /// Names of the classes by their index; empty where the set has none.
    fn classes(&self) -> &[String];

    /// Numbers of the first images of stretches that lie in one file each and are best read together; empty where images
    /// are read one like another.
    fn stretches(&self) -> &[usize] {
        &[]
    }

    /// Image `index`, resized and cropped; every image of a set has the same size.
    ///
    /// # Errors
    /// A [`DataError`] that names the image. The loader skips and counts it.
    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError>;

    /// Which pixels of the crop show the object, row by row, where the set knows.
    fn object(&self, _index: usize, _crop: Crop) -> Option<Vec<bool>> {
        None
    }
}
