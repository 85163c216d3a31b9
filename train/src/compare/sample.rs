//! Evenly spread samples of a set of images.

use std::collections::BTreeSet;

/// The fractional part of the golden ratio.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Indices of `count` of a set's `total` images, spread evenly: in a folder with one sub-folder per class the first images
/// are all of one class. A smaller sample is a subset of a larger one, so that its values can be reused.
///
/// Image i belongs to the sample if the fractional part of i times the golden ratio is among the `count` smallest. These
/// points on a circle are spread evenly for every `count` (the three-distance theorem).
#[must_use]
pub(super) fn sample(total: usize, count: usize) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..total).collect();
    sort(&mut order);
    order.truncate(count);
    order.into_iter().collect()
}

/// Sorts indices so that smaller samples are prefixes; at most one batch straddles a sample's end.
pub(super) fn sort(images: &mut [usize]) {
    let place = |index: &usize| (*index as f64 * GOLDEN).fract();
    images.sort_by(|a, b| place(a).total_cmp(&place(b)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn samples_are_nested_and_spread(total in 1_usize..600, part in 0.0_f64..=1.0, less in 0.0_f64..=1.0) {
            let count = (total as f64 * part) as usize;
            let larger = sample(total, count);
            prop_assert_eq!(larger.len(), count);
            prop_assert!(larger.iter().all(|index| *index < total));
            prop_assert!(sample(total, (count as f64 * less) as usize).is_subset(&larger));
            // Every interval of the set holds about its proportional number of samples.
            for start in (0..total).step_by(7) {
                let stretch = start..total.min(start + total / 4);
                let due = stretch.len() as f64 * count as f64 / total as f64;
                let found = larger.range(stretch).count() as f64;
                prop_assert!((found - due).abs() <= 4.0, "{found} of {due} from {start}");
            }
        }
    }

    #[test]
    fn sorted_images_begin_with_those_of_every_smaller_sample() {
        let mut images: Vec<usize> = (0..100).collect();
        sort(&mut images);
        assert_eq!(images[..30].iter().copied().collect::<BTreeSet<_>>(), sample(100, 30));
        assert_eq!(images[0], 0);
        assert_ne!(images, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn all_are_all() {
        assert_eq!(sample(5, 5), (0..5).collect());
        assert_eq!(sample(5, 9), (0..5).collect());
        assert_eq!(sample(0, 3).len(), 0);
    }
}
