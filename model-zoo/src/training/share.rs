//! A rank's share of a batch.

use burn::tensor::{Int, Tensor, TensorData};

use super::task::AllGather;

/// A rank's share of a batch.
pub struct LocalBatch {
    /// The predicted classes of the whole batch `[B]`, in the batch's order.
    pub classes: Tensor<1, Int>,
    /// The number of the share's first image in the batch.
    pub first: usize,
    /// The share's part of the batch, in 0..=1: the weight of its mean in the batch's.
    pub weight: f64,
}

impl LocalBatch {
    /// The share with the predicted classes `class` `[b]` of `images` images. Without images, `class` is that of the image that
    /// takes their place, and it has no weight.
    pub fn new(class: &Tensor<1, Int>, images: usize, ranks: Option<&dyn AllGather>) -> Self {
        let Some(ranks) = ranks else {
            return Self { classes: class.clone(), first: 0, weight: 1.0 };
        };
        // If the device or a rank has failed, the step ends with wrong metrics; the loop then reports the failure.
        let own: Vec<i64> = class.clone().try_into_data().map(|data| data.iter::<i64>().collect()).unwrap_or_default();
        let own: Vec<i64> = own.into_iter().take(images).collect();
        let all = ranks.all_gather(&own).unwrap_or_else(|| vec![own.clone(); ranks.rank() + 1]);
        let before = all.iter().take(ranks.rank()).map(Vec::len).sum();
        let all = all.concat();
        let (count, first) = (all.len(), if own.is_empty() { 0 } else { before });
        let weight = own.len() as f64 / count.max(1) as f64;
        if all.is_empty() {
            return Self { classes: class.clone(), first: 0, weight };
        }
        Self { classes: Tensor::from_data(TensorData::new(all, [count]), &class.device()), first, weight }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Rank `rank` of three with 2, 0 and 1 images, whose class is the rank's number.
    #[derive(Debug)]
    struct OneOfThree {
        rank: usize,
    }

    impl AllGather for OneOfThree {
        fn rank(&self) -> usize {
            self.rank
        }

        fn all_gather(&self, own: &[i64]) -> Option<Vec<Vec<i64>>> {
            let all = vec![vec![0, 0], vec![], vec![2]];
            assert_eq!(own, all[self.rank]);
            Some(all)
        }
    }

    #[test]
    fn shares_know_their_place_and_the_whole_batch() {
        let share = |(rank, images): (usize, usize)| {
            let class = Tensor::<1, Int>::full([images.max(1)], rank as i64, &Device::flex());
            let share = LocalBatch::new(&class, images, Some(&OneOfThree { rank }));
            (share.classes.into_data().iter::<i64>().collect::<Vec<_>>(), share.first, share.weight)
        };
        let shares = [(0, 2), (1, 0), (2, 1)].map(share);
        let places: Vec<_> = shares.iter().map(|(_, first, weight)| (*first, (weight * 3.0).round())).collect();
        assert_eq!(places, [(0, 2.0), (0, 0.0), (2, 1.0)]);
        assert!(shares.iter().all(|(classes, ..)| *classes == [0, 0, 2]));
    }
}
