//! The procedural image set: one object of ten classes in front of a textured, cluttered background.
//!
//! The set demonstrates and tests explainers without a download. A classifier can only use the outline: colour, texture,
//! size, position and rotation have the same distribution for all classes, and some distractors have the object's colour.
//! The exact mask of the object is known, so the share of a map inside the object can be measured.

mod clutter;
mod placement;
mod scene;
mod sdf;
mod texture;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use scene::Content;
pub use scene::{BoundingBox, Scene};
pub use sdf::Shape;

/// Height and width of every image, in pixels.
pub const SIDE: usize = 96;

/// A split of the infinite set: no scene is in two splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training an explainer.
    Train,
    /// For validation during training.
    Val,
    /// For testing the classifier, and for the final metrics: a test split.
    Fresh,
}

/// A finite part of the infinite set: `len` scenes of one split.
///
/// Scene `i` is a pure function of seed, split and `i`; a longer set begins with the scenes of a shorter one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapesSet {
    split: Split,
    len: usize,
    seed: u64,
}

impl ShapesSet {
    /// Class names, by class index.
    pub const CLASSES: [&str; 10] =
        ["disc", "ring", "square", "triangle", "star", "cross", "crescent", "heart", "arrow", "hourglass"];

    /// The first `len` scenes of `split` under `seed`.
    pub fn new(split: Split, len: usize, seed: u64) -> Self {
        Self { split, len, seed }
    }

    /// Number of scenes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set has no scene.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The class of scene `i`, without rendering it. Every ten consecutive scenes have each class once.
    pub fn class(&self, i: usize) -> usize {
        i % Shape::ALL.len()
    }

    /// Scene `i`. The set's length limits what a loader reads, not what can be rendered.
    pub fn scene(&self, i: usize) -> Scene {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.stream(i));
        Content::random(&mut rng, Shape::ALL[self.class(i)]).render()
    }

    /// The number of the random stream of scene `i`: the split in the two highest bits, `i` in the others.
    ///
    /// Streams of one ChaCha key never overlap, which is what keeps splits and scenes apart.
    fn stream(&self, i: usize) -> u64 {
        ((self.split as u64) << 62) | (i as u64 & (u64::MAX >> 2))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_scene_depends_on_seed_split_and_index_alone() {
        let set = ShapesSet::new(Split::Train, 100, 7);
        assert_eq!(set.scene(13), set.scene(13));
        assert_eq!(set.scene(13), ShapesSet::new(Split::Train, 5000, 7).scene(13));
        assert_ne!(set.scene(13).image, set.scene(23).image);
        assert_ne!(set.scene(13).image, ShapesSet::new(Split::Train, 100, 8).scene(13).image);
        assert_ne!(set.scene(13).image, ShapesSet::new(Split::Val, 100, 7).scene(13).image);
    }

    #[test]
    fn splits_never_share_a_stream() {
        let indices = [0, 1, 2, 999, 1_000_000, u32::MAX as usize];
        let splits = [Split::Train, Split::Val, Split::Fresh];
        let streams: HashSet<u64> =
            splits.iter().flat_map(|&split| indices.map(|i| ShapesSet::new(split, 1, 7).stream(i))).collect();
        assert_eq!(streams.len(), splits.len() * indices.len());
    }

    #[test]
    fn classes_are_balanced_and_named_in_order() {
        let set = ShapesSet::new(Split::Val, 200, 0);
        let mut counts = [0; 10];
        (0..set.len()).for_each(|i| counts[set.class(i)] += 1);
        assert_eq!(counts, [20; 10]);
        assert!((0..10).all(|i| set.scene(i).class == set.class(i)));
        assert_eq!(Shape::ALL.map(|shape| format!("{shape:?}").to_lowercase()), ShapesSet::CLASSES);
    }

    #[test]
    fn masks_have_the_stated_size_and_fill_their_box() {
        let set = ShapesSet::new(Split::Fresh, 300, 1);
        for i in 0..set.len() {
            let scene = set.scene(i);
            assert_eq!((scene.image.len(), scene.mask.len()), (3 * SIDE * SIDE, SIDE * SIDE));
            let BoundingBox { left, top, width, height } = scene.bbox;
            assert!(left + width < SIDE && top + height < SIDE && left > 0 && top > 0, "{:?}", scene.bbox);
            let longest = width.max(height) as f32 / SIDE as f32;
            assert!((0.18..=0.58).contains(&longest), "scene {i}: {longest}");
            let inside = (top..top + height)
                .map(|y| (left..left + width).filter(|x| scene.mask[y * SIDE + x]).count())
                .collect::<Vec<_>>();
            assert!(inside.iter().all(|&count| count > 0), "scene {i}: a row of the box is empty");
            assert_eq!(inside.iter().sum::<usize>(), scene.mask.iter().filter(|&&own| own).count());
        }
    }
}
