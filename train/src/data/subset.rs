//! A subset of an image set.

use std::sync::Arc;

use explainer_zoo::image::{Crop, Pixels};

use super::{DataError, ImageSet, Order};

/// Some images of a set, in their own order.
#[derive(Debug)]
pub struct Subset {
    set: Arc<dyn ImageSet>,
    indices: Vec<usize>,
    starts: Vec<usize>,
}

impl Subset {
    /// The images at these indices, in this order; indices out of range are left out.
    pub fn new(set: Arc<dyn ImageSet>, mut indices: Vec<usize>) -> Self {
        indices.retain(|index| *index < set.len());
        Self { set, indices, starts: Vec::new() }
    }

    /// The index, in the whole set, of image `index` of the subset.
    #[must_use]
    pub fn parent_index(&self, index: usize) -> Option<usize> {
        self.indices.get(index).copied()
    }

    /// At most `count` images, drawn with `seed`, in the set's order.
    pub fn sample(set: Arc<dyn ImageSet>, count: usize, seed: u64) -> Self {
        let order = Order::new(set.len(), seed, 0);
        let mut indices: Vec<usize> = order.indices().iter().copied().take(count).collect();
        indices.sort_unstable();
        let starts = set.shard_starts().iter().map(|start| indices.partition_point(|index| index < start)).collect();
        Self { set, indices, starts }
    }
}

impl ImageSet for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(self.indices[index])
    }

    fn id(&self, index: usize) -> String {
        self.set.id(self.indices[index])
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.set.class(self.indices[index])
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }

    fn shard_starts(&self) -> &[usize] {
        &self.starts
    }

    fn notes(&self) -> &[String] {
        self.set.notes()
    }

    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
        self.set.load(self.indices[index], crop)
    }

    fn object(&self, index: usize, crop: Crop) -> Option<Vec<bool>> {
        self.set.object(self.indices[index], crop)
    }
}
