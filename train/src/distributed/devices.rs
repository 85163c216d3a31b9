//! A communicator between threads of one process, one for each GPU of this machine, with Burn's own all-reduce.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, StreamId, Tensor, TensorData};

use super::{Communicator, CommunicatorError, ThreadCommunicator};

/// The rank of one thread with its own device, for `--strategy burn-ddp`. Sums use the all-reduce on which Burn's
/// distributed data parallel strategy is built (on CUDA: NCCL); that strategy itself saves and resumes whole epochs only.
///
/// `all_gather` and `broadcast` go through host memory. After a device error the rank leaves the others, and each later
/// collective returns that error.
#[derive(Debug)]
pub struct DeviceCommunicator {
    threads: ThreadCommunicator,
    device: Device,
    all: Vec<Device>,
    /// The stream of all sums. Each sum may come from another thread, and each thread would open its own stream.
    stream: StreamId,
    failed: OnceLock<CommunicatorError>,
}

impl DeviceCommunicator {
    /// One rank for each device, in their order. Only CUDA devices can sum.
    #[must_use]
    pub fn new(devices: &[Device]) -> Vec<Self> {
        let rank = |(threads, device): (ThreadCommunicator, &Device)| {
            let (device, all, stream) = (device.clone(), devices.to_vec(), StreamId::allocate());
            Self { threads, device, all, stream, failed: OnceLock::new() }
        };
        ThreadCommunicator::new(devices.len()).into_iter().zip(devices).map(rank).collect()
    }

    /// The sum of `values` over all devices.
    fn reduced(&self, values: &[f32]) -> Result<Vec<f32>, String> {
        let own = TensorData::new(values.to_vec(), [values.len()]);
        let reduce = || {
            let own = Tensor::<1>::from_data(own, &self.device);
            let sum = all_reduce(own, ReduceOperation::Sum, self.all.clone()).resolve();
            // The sum is asynchronous until it is read.
            sum.try_into_data().map(|data| data.iter::<f32>().collect::<Vec<_>>())
        };
        // Burn panics where NCCL cannot be loaded, on devices without all-reduce, and where the result cannot be read.
        let sum = catch_unwind(AssertUnwindSafe(|| self.stream.executes(reduce)))
            .map_err(|panic| panic_message(panic.as_ref()))?;
        let sum = sum.map_err(|failure| failure.to_string())?;
        if sum.len() == values.len() {
            Ok(sum)
        } else {
            Err(format!("{} values instead of {}", sum.len(), values.len()))
        }
    }

    /// The host communicator, or the error of this rank's device.
    fn threads(&self) -> Result<&ThreadCommunicator, CommunicatorError> {
        self.failed.get().map_or(Ok(&self.threads), |failed| Err(failed.clone()))
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").into()
}

impl Communicator for DeviceCommunicator {
    fn rank(&self) -> usize {
        self.threads.rank()
    }

    fn size(&self) -> usize {
        self.threads.size()
    }

    fn local_rank(&self) -> (usize, usize) {
        self.threads.local_rank()
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        // An all-reduce would wait for ever for a rank that has left, or that sums another number of values.
        let counts = self.threads()?.all_gather(&values.len().to_le_bytes())?;
        let mine = counts.get(self.rank());
        if let Some(rank) = counts.iter().position(|count| Some(count) != mine) {
            return Err(CommunicatorError::Mismatch { rank, reason: "it sums another number of values".into() });
        }
        match self.reduced(values) {
            Ok(sum) => values.copy_from_slice(&sum),
            Err(reason) => {
                let failed = CommunicatorError::Device { rank: self.rank(), reason };
                self.threads.abort();
                return Err(self.failed.get_or_init(|| failed).clone());
            }
        }
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        self.threads()?.all_gather(own)
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError> {
        self.threads()?.broadcast(own)
    }

    fn abort(&self) {
        self.threads.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result on each rank of a sum over `count(rank)` values.
    fn sums(devices: &[Device], count: impl Fn(usize) -> usize + Sync) -> Vec<Result<Vec<f32>, CommunicatorError>> {
        std::thread::scope(|scope| {
            let sum = |ranks: DeviceCommunicator| {
                let count = &count;
                scope.spawn(move || {
                    let mut values = vec![1.0 + ranks.rank() as f32; count(ranks.rank())];
                    ranks.all_reduce_sum(&mut values).map(|()| values)
                })
            };
            let ranks: Vec<_> = DeviceCommunicator::new(devices).into_iter().map(sum).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn after_a_device_error_each_collective_returns_it() {
        let ends: Vec<_> = std::thread::scope(|scope| {
            let rank = |ranks: DeviceCommunicator| {
                scope.spawn(move || {
                    let sum = ranks.all_reduce_sum(&mut [1.0; 3]).unwrap_err();
                    let later = [ranks.all_gather(&[]).unwrap_err(), ranks.all_reduce_sum(&mut [1.0]).unwrap_err()];
                    assert!(later.iter().all(|error| *error == sum), "{sum} {later:?}");
                    matches!(sum, CommunicatorError::Device { rank, .. } if rank == ranks.rank())
                })
            };
            let ranks: Vec<_> =
                DeviceCommunicator::new(&[Device::flex(), Device::flex()]).into_iter().map(rank).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert_eq!(ends, [true, true]);
    }

    #[test]
    fn a_rank_whose_device_failed_has_left_the_others() {
        let mut ranks = DeviceCommunicator::new(&[Device::flex(), Device::flex(), Device::flex()]);
        let (last, failed) = (ranks.pop().unwrap(), &ranks[0]);
        failed.failed.set(CommunicatorError::Device { rank: 0, reason: "lost".into() }).unwrap();
        failed.threads.abort();
        assert_eq!(last.all_gather(&[]), Err(CommunicatorError::Left { rank: 0 }));
        assert!(failed.broadcast(Vec::new()).unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn ranks_with_other_lengths_do_not_start_a_sum() {
        let ends = sums(&[Device::flex(), Device::flex()], |rank| 2 + rank);
        for (own, end) in ends.iter().enumerate() {
            assert!(matches!(end, Err(CommunicatorError::Mismatch { rank, .. }) if *rank == 1 - own), "{ends:?}");
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
        // From new threads, as a run with `distributed.overlap` sums.
        for count in [5, 1 << 20, 5] {
            for sum in sums(&devices, |_| count) {
                assert_eq!(sum, Ok(vec![all as f32; count]));
            }
        }
    }
}
