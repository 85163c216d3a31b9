//! Order and random crops of the images: pure functions of (seed, epoch, index).

use explainer_zoo::image::Crop;
use explainer_zoo::random::stream;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::ImageSet;

/// The order of one epoch: a permutation of `0..len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(Vec<usize>);

impl Order {
    /// The shuffled order of `epoch`.
    ///
    /// Fisher-Yates, written here because another version of `rand` may draw other numbers in its shuffle, which would
    /// change the batches of a resumed run.
    #[must_use]
    pub fn new(len: usize, seed: u64, epoch: usize) -> Self {
        let mut indices: Vec<usize> = (0..len).collect();
        shuffle(&mut indices, &mut stream(seed, "order", &[epoch as u64]));
        Self(indices)
    }

    /// Number of shards whose images are shuffled together in [`Order::of_shards`].
    pub const SHUFFLED_SHARDS: usize = 8;

    /// The shuffled order of `epoch` of a set of shards, whose first images are `starts` (the first one 0). The shards are
    /// shuffled, then the images of [`Order::SHUFFLED_SHARDS`] shards at a time, so that no more files than these are read
    /// at any time.
    #[must_use]
    pub fn of_shards(len: usize, starts: &[usize], seed: u64, epoch: usize) -> Self {
        let mut random = stream(seed, "stretches", &[epoch as u64]);
        let mut shards: Vec<usize> = (0..starts.len()).collect();
        shuffle(&mut shards, &mut random);
        Self(shuffled_shards(len, starts, &shards, &mut random))
    }

    /// The order of `epoch` of one of `world_size` processes, each of which reads shards of its own: every n-th of the
    /// shuffled shards of [`Order::of_shards`], their images shuffled in the same way. It has `count` images: a process
    /// with more leaves out the rest, a process with fewer starts again with its first.
    #[must_use]
    pub fn of_own_shards(
        len: usize,
        starts: &[usize],
        seed: u64,
        epoch: usize,
        (rank, world_size): (usize, usize),
        count: usize,
    ) -> Self {
        let mut shards: Vec<usize> = (0..starts.len()).collect();
        shuffle(&mut shards, &mut stream(seed, "stretches", &[epoch as u64]));
        let own: Vec<usize> = shards.into_iter().skip(rank).step_by(world_size.max(1)).collect();
        let mut random = stream(seed, "own stretches", &[epoch as u64, rank as u64]);
        Self(shuffled_shards(len, starts, &own, &mut random).into_iter().cycle().take(count).collect())
    }

    /// The shuffled order of `epoch` of a set.
    #[must_use]
    pub fn shuffled(set: &dyn ImageSet, seed: u64, epoch: usize) -> Self {
        match set.shard_starts() {
            [] | [_] => Self::new(set.len(), seed, epoch),
            starts => Self::of_shards(set.len(), starts, seed, epoch),
        }
    }

    /// The set's own order.
    #[must_use]
    pub fn sequential(len: usize) -> Self {
        Self((0..len).collect())
    }

    /// The indices of the images, first to last.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.0
    }
}

/// The images of `shards`, shuffled [`Order::SHUFFLED_SHARDS`] shards at a time. The shards of the set of `len` images begin
/// at `starts`.
fn shuffled_shards(len: usize, starts: &[usize], shards: &[usize], random: &mut ChaCha8Rng) -> Vec<usize> {
    let end = |shard: usize| starts.get(shard + 1).copied().unwrap_or(len);
    let mut indices = Vec::with_capacity(len);
    for group in shards.chunks(Order::SHUFFLED_SHARDS) {
        let from = indices.len();
        indices.extend(group.iter().flat_map(|shard| starts[*shard]..end(*shard)));
        shuffle(&mut indices[from..], random);
    }
    indices
}

/// Fisher-Yates.
fn shuffle(items: &mut [usize], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        // A multiplication maps 64 random bits to 0..=last, with a negligible bias of len / 2^64.
        let chosen = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, chosen as usize);
    }
}

/// Random augmentation of training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// A crop at a random position in place of the centre.
    pub crop: bool,
    /// A horizontal flip with probability 1/2.
    pub flip: bool,
}

impl Augment {
    /// The crop of image `index` in `epoch`.
    #[must_use]
    pub fn crop(self, seed: u64, epoch: usize, index: usize) -> Crop {
        if !self.crop && !self.flip {
            return Crop::Centre;
        }
        let mut random = stream(seed, "crop", &[epoch as u64, index as u64]);
        let (top, left, flip) = (fraction(random.next_u32()), fraction(random.next_u32()), random.next_u32());
        let (top, left) = if self.crop { (top, left) } else { (0.5, 0.5) };
        Crop::At { top, left, flip: self.flip && flip & 1 == 1 }
    }
}

/// 24 of 32 random bits as a number in `0.0..1.0`; f32 holds each of them exactly.
fn fraction(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1_u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_are_reproducible_and_differ_between_epochs_and_seeds() {
        assert_eq!(Order::new(100, 1, 2), Order::new(100, 1, 2));
        assert_ne!(Order::new(100, 1, 2), Order::new(100, 1, 3));
        assert_ne!(Order::new(100, 1, 2), Order::new(100, 2, 2));
        assert_eq!(Order::sequential(3).indices(), [0, 1, 2]);
    }

    #[test]
    fn the_order_of_a_seed_never_changes() {
        // Computed by another program. A change here breaks the resume of every run in progress.
        assert_eq!(Order::new(8, 0, 0).indices(), [0, 4, 5, 1, 2, 6, 3, 7]);
    }

    #[test]
    fn shards_of_each_process_are_disjoint_and_reshuffled() {
        let starts: Vec<usize> = (0..20).map(|shard| shard * 10).collect();
        let read = |epoch, number| Order::of_own_shards(203, &starts, 5, epoch, (number, 4), 48).0;
        let mut seen: Vec<usize> = (0..4).flat_map(|number| read(0, number)).collect();
        assert_eq!(seen.len(), 192);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 192, "no image is read twice");
        for number in 0..4 {
            assert_ne!(read(0, number), read(1, number));
            let mut shards: Vec<usize> = read(0, number).iter().map(|image| (image / 10).min(19)).collect();
            shards.sort_unstable();
            shards.dedup();
            assert_eq!(shards.len(), 5, "whole shards");
        }
        // One of two has 10 images, the other one 13.
        let again = |number| Order::of_own_shards(23, &[0, 10], 5, 0, (number, 2), 30).0;
        for read in [again(0), again(1)] {
            let length = if read[0] < 10 { 10 } else { 13 };
            assert_eq!(read[length..], read[..30 - length], "from the start");
        }
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut first = [0_i32; 5];
        for epoch in 0..5000 {
            first[Order::new(5, 7, epoch).indices()[0]] += 1;
        }
        assert!(first.iter().all(|count| (count - 1000).abs() < 150), "{first:?}");
    }

    #[test]
    fn crops_are_uniform_and_only_those_configured() {
        let all = Augment { crop: true, flip: true };
        let (mut sum, mut flips) = (0.0, 0);
        for index in 0..4000 {
            let Crop::At { top, left, flip } = all.crop(3, 1, index) else { panic!("a random crop") };
            assert!((0.0..1.0).contains(&top) && (0.0..1.0).contains(&left));
            sum += top + left;
            flips += i32::from(flip);
        }
        assert!((sum / 8000.0 - 0.5).abs() < 0.02 && (flips - 2000).abs() < 150, "{sum} {flips}");
        assert_eq!(all.crop(3, 1, 9), all.crop(3, 1, 9));
        assert_ne!(all.crop(3, 1, 9), all.crop(3, 2, 9));
        assert_eq!(Augment::default().crop(3, 1, 9), Crop::Centre);
        let crop_only = Augment { crop: true, flip: false };
        assert!((0..50).all(|index| matches!(crop_only.crop(0, 0, index), Crop::At { flip: false, .. })));
        let flip_only = Augment { crop: false, flip: true };
        assert!((0..50).all(|i| matches!(flip_only.crop(0, 0, i), Crop::At { top: 0.5, left: 0.5, .. })));
    }

    proptest! {
        #[test]
        fn an_order_is_a_permutation(len in 0..500_usize, seed: u64, epoch in 0..1000_usize) {
            let mut indices = Order::new(len, seed, epoch).0;
            indices.sort_unstable();
            prop_assert!(indices.into_iter().eq(0..len));
        }
    }
}
