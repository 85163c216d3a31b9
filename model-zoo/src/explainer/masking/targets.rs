//! Fake targets: with some probability the selector is given a class other than the image's.

use burn::tensor::{Int, Tensor, TensorData};
use rand::Rng;

use crate::random::stream;

/// Offset of each image's target class from its own, modulo `classes`: 0 keeps the class. With probability `share` the
/// offset is uniform in `1..classes`; always 0 with one class. Deterministic in seed, step and image index.
#[must_use]
pub fn fake_targets(seed: u64, step: usize, images: &[usize], share: f64, classes: usize) -> Vec<usize> {
    let others = classes.saturating_sub(1) as u64;
    let shift = |index: &usize| {
        let mut random = stream(seed, "fake target", &[step as u64, *index as u64]);
        let (chance, which) = (random.next_u32(), random.next_u64());
        if others == 0 || f64::from(chance) >= share * (f64::from(u32::MAX) + 1.0) {
            return 0;
        }
        // A multiplication maps 64 random bits to 0..others; its bias of others / 2^64 is negligible.
        1 + ((u128::from(which) * u128::from(others)) >> 64) as usize
    };
    images.iter().map(shift).collect()
}

/// The classes `[B]` that lie `shifts` behind `class`, around all `classes`.
#[must_use]
pub fn shifted(class: Tensor<1, Int>, shifts: &[usize], classes: usize) -> Tensor<1, Int> {
    let shifts: Vec<i64> = shifts.iter().map(|shift| *shift as i64).collect();
    let shifts = Tensor::<1, Int>::from_data(TensorData::new(shifts, class.dims()), &class.device());
    (class + shifts).remainder_scalar(classes.max(1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn wrong_classes_are_as_frequent_as_asked_for_and_equally_likely() {
        let images: Vec<usize> = (0..10_000).collect();
        let shifts = fake_targets(1, 5, &images, 0.3, 5);
        let mut counts = [0_i32; 5];
        shifts.iter().for_each(|shift| counts[*shift] += 1);
        assert!((counts[0] - 7000).abs() < 200, "{counts:?}");
        assert!(counts[1..].iter().all(|count| (count - 750).abs() < 120), "{counts:?}");
    }

    #[test]
    fn the_ends_are_exact() {
        let images: Vec<usize> = (0..500).collect();
        assert!(fake_targets(0, 0, &images, 0.0, 3).iter().all(|shift| *shift == 0));
        assert!(fake_targets(0, 0, &images, 1.0, 3).iter().all(|shift| *shift == 1 || *shift == 2));
        assert!(fake_targets(0, 0, &images, 1.0, 1).iter().all(|shift| *shift == 0));
    }

    #[test]
    fn an_images_target_depends_on_seed_step_and_image_alone() {
        let all = fake_targets(3, 9, &[4, 7, 2], 0.5, 1000);
        assert_eq!(fake_targets(3, 9, &[7], 0.5, 1000), all[1..2]);
        let images: Vec<usize> = (0..64).collect();
        assert_ne!(fake_targets(3, 9, &images, 0.5, 1000), fake_targets(3, 10, &images, 0.5, 1000));
        assert_ne!(fake_targets(3, 9, &images, 0.5, 1000), fake_targets(4, 9, &images, 0.5, 1000));
    }

    #[test]
    fn a_shift_goes_around() {
        let class = Tensor::<1, Int>::from_ints([3, 0, 4], &Device::default());
        let found: Vec<i64> = shifted(class, &[0, 4, 2], 5).into_data().iter::<i64>().collect();
        assert_eq!(found, [3, 4, 1]);
    }
}
