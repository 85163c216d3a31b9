//! Stochastic gradient descent as `torch.optim.SGD`.

use burn::{
    optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource},
    tensor::{Device, Tensor},
};

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::momentum::Momentum;
use crate::range::{decay, learning_rate, not_negative, positive};

/// Stochastic gradient descent with PyTorch's meaning of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate: the peak of the schedule. Above 0, at most 1000.
    #[garde(custom(learning_rate))]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub lr: f64,
    /// Momentum, from 0 (none) up to but not including 1. OneCycle overrides it while `cycle_momentum` is on.
    #[garde(custom(decay))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Nesterov's form of momentum.
    #[garde(skip)]
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Whether biases and BatchNorm's two vectors are decayed too. T-TAME: no.
    #[garde(skip)]
    pub decay_biases: bool,
    /// Largest global norm of the gradient over all of the head's tensors; none by default.
    #[garde(inner(custom(positive)))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.9, nesterov: true, weight_decay: 5e-4, decay_biases: false, clip_norm: None }
    }
}

/// SGD with momentum, without dampening: `g += decay w; v = mu v + g` (`v = g` at first); `w -= lr (g + mu v)` with
/// Nesterov's look-ahead, `w -= lr v` without.
#[derive(Clone, Debug)]
pub(super) struct SgdUpdate {
    momentum: Momentum,
    nesterov: bool,
    weight_decay: f64,
}

impl SgdUpdate {
    /// With the `weight_decay` given in place of the section's own, and momentum read from `momentum`.
    pub fn new(settings: &Sgd, weight_decay: f64, momentum: Momentum) -> Self {
        Self { momentum, nesterov: settings.nesterov, weight_decay }
    }
}

/// A parameter's running gradient.
#[derive(Clone, Debug)]
pub(super) struct SgdState<const D: usize> {
    velocity: Tensor<D>,
}

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "velocity", self.velocity.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = Tensor::from_data(source.take_tensor(prefix, "velocity")?, device);
        Some(Self { velocity })
    }
}

impl Optimizer for SgdUpdate {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        let momentum = self.momentum.get();
        let gradient = match self.weight_decay {
            0.0 => gradient,
            decay => gradient + parameter.clone().mul_scalar(decay),
        };
        let velocity = match state {
            Some(state) => state.velocity.mul_scalar(momentum) + gradient.clone(),
            None => gradient.clone(),
        };
        let step = match self.nesterov {
            true => gradient + velocity.clone().mul_scalar(momentum),
            false => velocity.clone(),
        };
        (parameter - step.mul_scalar(lr), Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: SgdState<D>, device: &Device) -> SgdState<D> {
        SgdState { velocity: state.velocity.to_device(device) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        let device = Device::default();
        let scalar = |value: f32| Tensor::<1>::full([1], value, &device);
        for (nesterov, expected) in [(true, 0.7093), (false, 0.847)] {
            let settings = Sgd { nesterov, ..Sgd::default() };
            let sgd = SgdUpdate::new(&settings, 0.02, Momentum::new(0.9));
            // g = 1.51 + 0.02 * 1 = 1.53, v = 1.53, Nesterov's step 1.53 * 1.9.
            let (once, state) = sgd.step(0.1, scalar(1.0), scalar(1.51), None);
            let first = once.clone().into_scalar::<f32>();
            let (twice, _) = sgd.step(0.1, once, scalar(1.5), state);
            let second = twice.into_scalar::<f32>();
            let w = f64::from(first);
            let g = 1.5 + 0.02 * w;
            let v = 0.9 * 1.53 + g;
            let by_hand = w - 0.1 * if nesterov { g + 0.9 * v } else { v };
            assert!((first - expected).abs() < 1e-6, "{nesterov}: {first}");
            assert!((f64::from(second) - by_hand).abs() < 1e-6, "{nesterov}: {second} instead of {by_hand}");
        }
    }
}
