//! A share of a batch among those of the other ranks.

use burn::tensor::{Int, Tensor, TensorData};

use crate::distributed::ProcessGroup;

/// What a rank's share is of the whole batch.
pub struct Share {
    /// The predicted classes of the whole batch `[B]`, in the batch's order.
    pub classes: Tensor<1, Int>,
    /// The number of the share's first image.
    pub first: usize,
    /// The share's part of the batch, in 0..=1: what its mean counts in the batch's.
    pub weight: f64,
}

impl Share {
    /// Of `class` `[b]`, the predicted classes of this rank's `images` images; with none of them, `class` is that of an
    /// image that stands in for one and does not count.
    pub fn of(class: &Tensor<1, Int>, images: usize, group: &ProcessGroup) -> Self {
        if group.is_single() {
            return Self { classes: class.clone(), first: 0, weight: 1.0 };
        }
        // Where the device or a rank has failed the step goes on with what there is, and the figures say so.
        let own: Vec<i64> = class.clone().try_into_data().map(|data| data.iter::<i64>().collect()).unwrap_or_default();
        let own: Vec<i64> = own.into_iter().take(images).collect();
        let all = group.all_gather(&own).unwrap_or_else(|_| vec![own.clone(); group.rank() + 1]);
        let before = all.iter().take(group.rank()).map(Vec::len).sum();
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
    use crate::distributed::ThreadCommunicator;

    #[test]
    fn shares_know_their_place_and_the_whole_batch() {
        let images = [2, 0, 1];
        let shares: Vec<_> = std::thread::scope(|scope| {
            let rank = |ranks: ThreadCommunicator| {
                scope.spawn(move || {
                    let group = ProcessGroup::new(ranks);
                    let images = images[group.rank()];
                    let class = Tensor::<1, Int>::full([images.max(1)], group.rank() as i64, &Device::flex());
                    let share = Share::of(&class, images, &group);
                    (share.classes.into_data().iter::<i64>().collect::<Vec<_>>(), share.first, share.weight)
                })
            };
            let ranks: Vec<_> = ThreadCommunicator::new(3).into_iter().map(rank).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        let places: Vec<_> = shares.iter().map(|(_, first, weight)| (*first, (weight * 3.0).round())).collect();
        assert_eq!(places, [(0, 2.0), (0, 0.0), (2, 1.0)]);
        assert!(shares.iter().all(|(classes, ..)| *classes == [0, 0, 2]));
    }
}
