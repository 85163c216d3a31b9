//! The procedural shapes as an image set, with the exact mask of every object.

use explainer_zoo::image::{Crop, Pixels};
use explainer_zoo::weights::hash::sha256;

use super::shapes::{SIDE, ShapesSet, Split};
use super::{DataError, ImageSet};

/// Scenes, rendered on demand. Resizing and cropping do not apply; a flip does.
#[derive(Debug)]
pub struct Scenes {
    set: ShapesSet,
    split: Split,
    seed: u64,
    classes: Vec<String>,
}

impl Scenes {
    /// `len` scenes of a split under `seed`.
    pub fn new(split: Split, len: usize, seed: u64) -> Self {
        let classes = ShapesSet::CLASSES.map(String::from).to_vec();
        Self { set: ShapesSet::new(split, len, seed), split, seed, classes }
    }
}

/// Column `x`, from the other side if the crop is flipped.
fn column(x: usize, crop: Crop) -> usize {
    match crop {
        Crop::At { flip: true, .. } => SIDE - 1 - x,
        _ => x,
    }
}

impl ImageSet for Scenes {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn name(&self, index: usize) -> String {
        format!("scene {index} of {:?}", self.split)
    }

    /// The digest of split, length and seed. Checkpoints contain it: do not change the text.
    fn digest(&self) -> String {
        let split = match self.split {
            Split::Train => "train",
            Split::Val => "val",
            Split::Fresh => "fresh",
        };
        sha256(format!("shapes {split} {} {}", self.set.len(), self.seed).as_bytes())
    }

    fn class(&self, index: usize) -> Option<usize> {
        Some(self.set.class(index))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
        let image = self.set.scene(index).image;
        let mut values = Vec::with_capacity(3 * SIDE * SIDE);
        for channel in 0..3 {
            for y in 0..SIDE {
                values.extend((0..SIDE).map(|x| f32::from(image[(y * SIDE + column(x, crop)) * 3 + channel]) / 255.0));
            }
        }
        Ok(Pixels { values, height: SIDE, width: SIDE })
    }

    fn object(&self, index: usize, crop: Crop) -> Option<Vec<bool>> {
        let mask = self.set.scene(index).mask;
        Some((0..SIDE * SIDE).map(|i| mask[i / SIDE * SIDE + column(i % SIDE, crop)]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_differ_by_split_length_and_seed() {
        let digest = |split, len, seed| Scenes::new(split, len, seed).digest();
        let digests = [
            digest(Split::Train, 9, 1),
            digest(Split::Val, 9, 1),
            digest(Split::Train, 8, 1),
            digest(Split::Train, 9, 2),
        ];
        assert_eq!(digests[0], sha256(b"shapes train 9 1"), "checkpoints contain it");
        assert!(digests.iter().enumerate().all(|(at, digest)| !digests[..at].contains(digest)));
    }
}
