//! Batch normalisation over a batch of which several processes have a share each.
//!
//! Mean and variance are those of the whole batch. They depend on the inputs of every process, so the gradient with
//! respect to an input x takes two sums over the whole batch: with g the loss's gradient with respect to the normalised
//! x^ = (x - mean) / std and n the number of values of a channel,
//!
//! dx = (g - sum(g) / n - x^ sum(g x^) / n) / std
//!
//! (Ioffe and Szegedy, 2015). A normalised map is therefore a leaf of the graph: [`SyncBatchNorm::finish`] takes its
//! gradient from the first backward pass, all-reduces the sums, and runs a second backward pass with dx. All layers share
//! one all-reduce per step.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Gradients, Tensor, TensorData};

/// A sum over processes.
pub trait AllReduce: Debug + Send + Sync {
    /// Replaces `values`, of which every process has equally many, by their sum over all processes.
    fn all_reduce_sum(&self, values: &mut [f32]);
}

/// What the batch normalisations of a head share with those of other processes.
#[derive(Debug)]
pub struct SyncBatchNorm {
    processes: Arc<dyn AllReduce>,
    absent: AtomicBool,
    waiting: Mutex<Vec<Waiting>>,
}

/// A layer between its forward and its backward pass.
#[derive(Debug)]
struct Waiting {
    /// `[B,C,H,W]`, with its graph.
    input: Tensor<4>,
    /// `[B,C,H,W]`, a leaf.
    normalised: Tensor<4>,
    /// 1 / std `[C]`.
    scale: Tensor<1>,
    /// Values of a channel in the whole batch.
    count: f32,
}

/// A batch normalised by the whole batch's statistics.
pub(crate) struct Normalised {
    /// `[B,C,H,W]`, a leaf of the graph.
    pub output: Tensor<4>,
    /// `[C]`
    pub mean: Tensor<1>,
    /// `[C]`, biased.
    pub variance: Tensor<1>,
    /// Values of a channel.
    pub count: f64,
}

impl SyncBatchNorm {
    /// Among `processes`.
    pub fn new(processes: Arc<dyn AllReduce>) -> Arc<Self> {
        Arc::new(Self { processes, absent: AtomicBool::new(false), waiting: Mutex::default() })
    }

    /// Begins a step. With `absent` this process has no image of the batch: the one that it passes through the head
    /// takes its place, and has no weight in any statistic.
    pub fn begin(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sums of `values` `[C]` over all processes, behind `more` of the same length as on the others.
    fn sums(&self, values: Tensor<1>, more: &[f32]) -> Vec<f32> {
        let [length] = values.dims();
        // A device that fails returns NaN, which the metrics of the step then show.
        let values = values.try_into_vec_as::<f32>().unwrap_or_else(|_| vec![f32::NAN; length]);
        let mut all: Vec<f32> = more.iter().copied().chain(values).collect();
        if self.absent.load(Ordering::Relaxed) {
            all.fill(0.0);
        }
        self.processes.all_reduce_sum(&mut all);
        all
    }

    /// (x - mean) / sqrt(variance + epsilon) for x `[B,C,H,W]` with a graph.
    pub(crate) fn normalise(&self, x: Tensor<4>, epsilon: f64) -> Normalised {
        let [batch, channels, height, width] = x.dims();
        let plain = x.clone().without_autodiff();
        let device = plain.device();
        let vector = |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [channels]), &device);
        let across = |x: Tensor<4>| x.sum_dim(3).sum_dim(2).sum_dim(0).reshape([channels]);

        let sums = self.sums(across(plain.clone()), &[(batch * height * width) as f32]);
        let count = sums.first().copied().unwrap_or(0.0).max(1.0);
        let mean = vector(&sums.iter().skip(1).map(|sum| sum / count).collect::<Vec<_>>());
        let centred = plain - mean.clone().reshape([1, channels, 1, 1]);
        let squares = self.sums(across(centred.clone().square()), &[]);
        let variance = vector(&squares.iter().map(|sum| sum / count).collect::<Vec<_>>());
        let scale = variance.clone().add_scalar(epsilon).sqrt().recip();

        let normalised = (centred * scale.clone().reshape([1, channels, 1, 1])).autodiff().require_grad();
        self.waiting().push(Waiting { input: x, normalised: normalised.clone(), scale, count });
        Normalised { output: normalised, mean: mean.autodiff(), variance: variance.autodiff(), count: f64::from(count) }
    }

    /// Second backward pass: from the `gradients` of the normalised maps to the parameters before them. `None` if nothing
    /// was normalised in this step.
    #[must_use]
    pub fn finish(&self, gradients: &Gradients) -> Option<Gradients> {
        let waiting = std::mem::take(&mut *self.waiting());
        let parts = waiting.iter().map(|layer| {
            let [_, channels, ..] = layer.normalised.dims();
            let gradient = layer.normalised.grad(gradients);
            let gradient = gradient.unwrap_or_else(|| layer.normalised.clone().without_autodiff().zeros_like());
            let across = |x: Tensor<4>| x.sum_dim(3).sum_dim(2).sum_dim(0).reshape([channels]);
            let weighted = gradient.clone() * layer.normalised.clone().without_autodiff();
            (Tensor::cat(vec![across(gradient.clone()), across(weighted)], 0), gradient)
        });
        let (sums, gradients): (Vec<_>, Vec<_>) = parts.unzip();
        if sums.is_empty() {
            return None;
        }
        let absent = self.absent.load(Ordering::Relaxed);
        let sums = self.sums(Tensor::cat(sums, 0), &[]);
        let mut rest = sums.as_slice();
        let mut surrogate: Option<Tensor<1>> = None;
        for (layer, gradient) in waiting.into_iter().zip(gradients) {
            let [_, channels, ..] = gradient.dims();
            let mut mean = || {
                let (own, behind) = rest.split_at_checked(channels).unwrap_or((rest, &[]));
                rest = behind;
                let own: Vec<f32> = own.iter().map(|sum| sum / layer.count).collect();
                Tensor::<1>::from_data(TensorData::new(own, [channels]), &gradient.device())
                    .reshape([1, channels, 1, 1])
            };
            let (mean, weighted) = (mean(), mean());
            let scale = layer.scale.reshape([1, channels, 1, 1]);
            let mut along = (gradient - mean - layer.normalised.without_autodiff() * weighted) * scale;
            if absent {
                along = along.zeros_like(); // no statistic depends on the replacement
            }
            let part = (layer.input * along.autodiff()).sum();
            surrogate = Some(match surrogate {
                Some(surrogate) => surrogate + part,
                None => part,
            });
        }
        surrogate.map(|surrogate| surrogate.backward())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::module::batch_norm_train;
    use burn::tensor::{Device, Tolerance};

    use super::*;
    use crate::weights::random::uniform;

    /// One process, which is all of them.
    #[derive(Debug)]
    struct Own;

    impl AllReduce for Own {
        fn all_reduce_sum(&self, _: &mut [f32]) {}
    }

    fn tensor(name: &str, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let values = uniform(1, name, shape.iter().product()).into_iter().map(|value| 4.0 * value + 3.0).collect();
        Tensor::from_data(TensorData::new::<f32, _>(values, shape), device)
    }

    #[test]
    fn in_two_walks_the_gradient_is_that_of_one() {
        let device = Device::flex().autodiff();
        let shape = [3, 2, 4, 5];
        let leaf = || tensor("x", shape, &device).require_grad();
        let weights = || tensor("weights", shape, &device);

        let x = leaf();
        let gamma = || Tensor::<1>::ones([2], &device);
        let expected = batch_norm_train(x.clone() * 2.0, gamma(), gamma().zeros_like(), 1e-5);
        let gradients = (expected.output.clone().square() * weights()).sum().backward();
        let slope = x.grad(&gradients).unwrap();

        let x = leaf();
        let sync = SyncBatchNorm::new(Arc::new(Own));
        sync.begin(false);
        let found = sync.normalise(x.clone() * 2.0, 1e-5);
        let gradients = (found.output.clone().square() * weights()).sum().backward();
        assert!(x.grad(&gradients).is_none(), "the first walk ends at the normalised map");
        let gradients = sync.finish(&gradients).unwrap();

        let same = |a: Tensor<4>, b: Tensor<4>| {
            a.into_data().assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-4));
        };
        same(found.output, expected.output);
        same(x.grad(&gradients).unwrap(), slope);
        for (found, expected) in [(found.mean, expected.mean), (found.variance, expected.variance)] {
            found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
        }
        assert_eq!(found.count, 60.0);
        assert!(sync.finish(&gradients).is_none(), "nothing waits any more");
    }

    #[test]
    fn what_stands_in_for_an_image_changes_no_weight() {
        let device = Device::flex().autodiff();
        let x = tensor("x", [1, 2, 3, 3], &device).require_grad();
        let sync = SyncBatchNorm::new(Arc::new(Own));
        sync.begin(true);
        let normalised = sync.normalise(x.clone(), 1e-5);
        assert_eq!(normalised.count, 1.0);
        let gradients = sync.finish(&normalised.output.sum().backward()).unwrap();
        assert!(x.grad(&gradients).unwrap().into_data().iter::<f32>().all(|slope| slope == 0.0));
    }
}
