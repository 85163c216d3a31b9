//! Batch normalisation with PyTorch's running statistics.

use std::sync::Arc;

use burn::module::{Module, Param, RunningState};
use burn::tensor::module::batch_norm;
use burn::tensor::{Tensor, TensorData};

use crate::backbone::layers::normalise_batch;
use crate::sync_batch_norm::SyncBatchNorm;

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Batch normalisation over `[B,C,H,W]`: batch statistics on an autodiff device, running statistics elsewhere.
///
/// Burn's own module keeps the running variance biased; PyTorch, and with it every published head, divides by n - 1.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale `[C]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift `[C]`.
    pub beta: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
    #[module(skip)]
    sync: Option<Arc<SyncBatchNorm>>,
}

impl BatchNorm {
    /// From its four tensors, all `[C]`.
    pub fn new(gamma: Tensor<1>, beta: Tensor<1>, mean: Tensor<1>, variance: Tensor<1>) -> Self {
        Self {
            gamma: Param::from_tensor(gamma),
            beta: Param::from_tensor(beta),
            running_mean: RunningState::new(mean),
            running_var: RunningState::new(variance),
            sync: None,
        }
    }

    /// `[B,C,H,W]` to the same shape; in training also moves the running statistics.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        if !x.device().is_autodiff() {
            return batch_norm(x, gamma, beta, self.running_mean.value(), self.running_var.value(), EPSILON);
        }
        let [batch, channels, height, width] = x.dims();
        let (output, mean, variance, count) = match &self.sync {
            Some(sync) => {
                let of = sync.normalise(x, EPSILON);
                let [gamma, beta] = [gamma, beta].map(|part| part.reshape([1, channels, 1, 1]));
                (of.output * gamma + beta, of.mean, of.variance, of.count)
            }
            None => {
                let (output, [mean, variance]) = normalise_batch(x, gamma, beta, EPSILON);
                (output, mean, variance, (batch * height * width) as f64)
            }
        };
        let unbiased = count / (count - 1.0).max(1.0);
        let moved = |old: Tensor<1>, new: Tensor<1>, scale: f64| {
            (old.mul_scalar(1.0 - MOMENTUM) + new.detach().mul_scalar(MOMENTUM * scale)).detach()
        };
        set(&self.running_mean, moved(self.running_mean.value(), mean, 1.0));
        set(&self.running_var, moved(self.running_var.value(), variance, unbiased));
        output
    }

    /// The same with the batch statistics of the whole batch that `sync` has a share of, or of its own batch.
    #[must_use]
    pub(super) fn synchronised(self, sync: Option<Arc<SyncBatchNorm>>) -> Self {
        Self { sync, ..self }
    }

    /// The running statistics: mean and variance, `[C]` each.
    pub(super) fn running(&self) -> [Tensor<1>; 2] {
        [self.running_mean.value(), self.running_var.value()]
    }

    /// Sets the running statistics.
    pub(super) fn set_running(&self, [mean, variance]: [Tensor<1>; 2]) {
        set(&self.running_mean, mean);
        set(&self.running_var, variance);
    }

    /// A tensor by PyTorch's name: `weight`, `bias`, `running_mean` or `running_var`.
    pub(crate) fn part(&self, name: &str) -> TensorData {
        match name {
            "weight" => self.gamma.val().into_data(),
            "bias" => self.beta.val().into_data(),
            "running_mean" => self.running_mean.value().into_data(),
            _ => self.running_var.value().into_data(),
        }
    }
}

/// Puts a value in place at once: an update alone is pending, and a checkpoint's record would not have it.
fn set(statistic: &RunningState<Tensor<1>>, value: Tensor<1>) {
    statistic.update(value);
    let _ = statistic.value_sync();
}
