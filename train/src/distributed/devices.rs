//! Ranks that are threads of one process, one a GPU of this machine, which sum by Burn's own all-reduce.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, StreamId, Tensor, TensorData};

use super::{RankError, Ranks, Threads};

/// One of several threads, each with a device of its own: what `--strategy burn-ddp` trains with. Sums go through the
/// all-reduce that Burn's strategy for distributed data parallel training stands on; that strategy itself saves and resumes
/// whole epochs only. On CUDA it is NCCL's.
///
/// What ranks tell each other goes from thread to thread. A rank whose device has failed leaves the others, and says why
/// whenever it is asked for something.
#[derive(Debug)]
pub struct Devices {
    threads: Threads,
    device: Device,
    all: Vec<Device>,
    /// Of all sums: the thread that asks for one may be a new one each time, and each thread would open a stream of its own.
    stream: StreamId,
    failed: OnceLock<RankError>,
}

impl Devices {
    /// One rank a device, in their order. Of the devices only CUDA's can sum.
    #[must_use]
    pub fn new(devices: &[Device]) -> Vec<Self> {
        let rank = |(threads, device): (Threads, &Device)| {
            let (device, all, stream) = (device.clone(), devices.to_vec(), StreamId::allocate());
            Self { threads, device, all, stream, failed: OnceLock::new() }
        };
        Threads::new(devices.len()).into_iter().zip(devices).map(rank).collect()
    }

    /// The sum over all devices, of equally many values each.
    fn reduced(&self, values: &[f32]) -> Result<Vec<f32>, String> {
        let own = TensorData::new(values.to_vec(), [values.len()]);
        let reduce = || {
            let own = Tensor::<1>::from_data(own, &self.device);
            let sum = all_reduce(own, ReduceOperation::Sum, self.all.clone()).resolve();
            // The values are waited for when they are looked at.
            sum.try_into_data().map(|data| data.iter::<f32>().collect::<Vec<_>>())
        };
        // Burn panics where NCCL cannot be loaded, on devices that cannot sum, and where what was computed cannot be read.
        let sum =
            catch_unwind(AssertUnwindSafe(|| self.stream.executes(reduce))).map_err(|panic| said(panic.as_ref()))?;
        let sum = sum.map_err(|failure| failure.to_string())?;
        if sum.len() == values.len() {
            Ok(sum)
        } else {
            Err(format!("{} values instead of {}", sum.len(), values.len()))
        }
    }

    /// The threads, as long as the device works.
    fn threads(&self) -> Result<&Threads, RankError> {
        self.failed.get().map_or(Ok(&self.threads), |failed| Err(failed.clone()))
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").into()
}

impl Ranks for Devices {
    fn rank(&self) -> usize {
        self.threads.rank()
    }

    fn size(&self) -> usize {
        self.threads.size()
    }

    fn node(&self) -> (usize, usize) {
        self.threads.node()
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        // An all-reduce waits for ever for a rank that has left, or that has something else to sum.
        let counts = self.threads()?.gather(&values.len().to_le_bytes())?;
        let mine = counts.get(self.rank());
        if let Some(rank) = counts.iter().position(|count| Some(count) != mine) {
            return Err(RankError::OutOfStep { rank, reason: "it sums another number of values".into() });
        }
        match self.reduced(values) {
            Ok(sum) => values.copy_from_slice(&sum),
            Err(reason) => {
                let failed = RankError::Device { rank: self.rank(), reason };
                self.threads.abandon();
                return Err(self.failed.get_or_init(|| failed).clone());
            }
        }
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        self.threads()?.gather(own)
    }

    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, RankError> {
        self.threads()?.first(own)
    }

    fn abandon(&self) {
        self.threads.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each rank gets that sums as many values as `count` says.
    fn sums(devices: &[Device], count: impl Fn(usize) -> usize + Sync) -> Vec<Result<Vec<f32>, RankError>> {
        std::thread::scope(|scope| {
            let sum = |ranks: Devices| {
                let count = &count;
                scope.spawn(move || {
                    let mut values = vec![1.0 + ranks.rank() as f32; count(ranks.rank())];
                    ranks.sum(&mut values).map(|()| values)
                })
            };
            let ranks: Vec<_> = Devices::new(devices).into_iter().map(sum).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_rank_whose_device_cannot_sum_says_so_whatever_it_is_asked() {
        let ends: Vec<_> = std::thread::scope(|scope| {
            let rank = |ranks: Devices| {
                scope.spawn(move || {
                    let sum = ranks.sum(&mut [1.0; 3]).unwrap_err();
                    let later = [ranks.gather(&[]).unwrap_err(), ranks.sum(&mut [1.0]).unwrap_err()];
                    assert!(later.iter().all(|error| *error == sum), "{sum} {later:?}");
                    matches!(sum, RankError::Device { rank, .. } if rank == ranks.rank())
                })
            };
            let ranks: Vec<_> = Devices::new(&[Device::flex(), Device::flex()]).into_iter().map(rank).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert_eq!(ends, [true, true]);
    }

    #[test]
    fn a_rank_whose_device_has_failed_has_left_the_others() {
        let mut ranks = Devices::new(&[Device::flex(), Device::flex(), Device::flex()]);
        let (last, failed) = (ranks.pop().unwrap(), &ranks[0]);
        failed.failed.set(RankError::Device { rank: 0, reason: "lost".into() }).unwrap();
        failed.threads.abandon();
        assert_eq!(last.gather(&[]), Err(RankError::Left { rank: 0 }));
        assert!(failed.first(Vec::new()).unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn nobody_starts_a_sum_that_cannot_end() {
        let ends = sums(&[Device::flex(), Device::flex()], |rank| 2 + rank);
        for (own, end) in ends.iter().enumerate() {
            assert!(matches!(end, Err(RankError::OutOfStep { rank, .. }) if *rank == 1 - own), "{ends:?}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn all_gpus_have_the_sum() {
        let devices = Device::enumerate(burn::tensor::DeviceType::Cuda);
        if devices.is_empty() {
            return;
        }
        let all = devices.len() * (devices.len() + 1) / 2;
        // Thread after thread, as a run with `distributed.overlap` sums.
        for count in [5, 1 << 20, 5] {
            for sum in sums(&devices, |_| count) {
                assert_eq!(sum, Ok(vec![all as f32; count]));
            }
        }
    }
}
