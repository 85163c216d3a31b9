//! Adam as `torch.optim.AdamW`, whose weight decay is apart from the gradient, and as `torch.optim.Adam`.

use burn::{
    optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource},
    tensor::{Device, Tensor},
};

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::momentum::Momentum;
use crate::range::{decays, learning_rate, not_negative, positive};

/// AdamW with PyTorch's meaning, and defaults, of every key but `amsgrad`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate: the peak of the schedule. Above 0, at most 1000.
    #[garde(custom(learning_rate))]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub lr: f64,
    /// Decay rates of the running means of the gradient and of its square. OneCycle overrides the first while
    /// `cycle_momentum` is on.
    #[garde(custom(decays))]
    pub betas: [f64; 2],
    /// Added to the denominator for numerical stability.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// Decoupled weight decay.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Divides by the largest running mean of the squares seen so far. P-TAME: yes.
    #[garde(skip)]
    pub amsgrad: bool,
    /// Whether biases and BatchNorm's two vectors are decayed too.
    #[garde(skip)]
    pub decay_biases: bool,
    /// Largest global norm of the gradient over all of the head's tensors; none by default.
    #[garde(inner(custom(positive)))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            amsgrad: true,
            decay_biases: true,
            clip_norm: None,
        }
    }
}

/// Adam with PyTorch's meaning and defaults of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate: the peak of the schedule. Above 0, at most 1000.
    #[garde(custom(learning_rate))]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub lr: f64,
    /// Decay rates of the running means of the gradient and of its square. OneCycle overrides the first while
    /// `cycle_momentum` is on.
    #[garde(custom(decays))]
    pub betas: [f64; 2],
    /// Added to the denominator for numerical stability.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    #[garde(custom(not_negative))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Whether biases and BatchNorm's two vectors are decayed too.
    #[garde(skip)]
    pub decay_biases: bool,
    /// Largest global norm of the gradient over all of the head's tensors; none by default.
    #[garde(inner(custom(positive)))]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
}

impl Default for Adam {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decay_biases: true, clip_norm: None }
    }
}

/// AdamW (Loshchilov and Hutter, 2019), optionally with AMSGrad. As in PyTorch the maximum is taken over the
/// uncorrected squared-gradient means, and a moving beta1 corrects the bias with its present value's power.
///
/// Adam (Kingma and Ba, 2015) differs in the weight decay alone: an L2 penalty, added to the gradient.
#[derive(Clone, Debug)]
pub(super) struct AdamUpdate {
    beta1: Momentum,
    beta2: f64,
    eps: f64,
    amsgrad: bool,
    weight_decay: f64,
    /// Whether weight decay is an L2 penalty.
    penalty: bool,
}

impl AdamUpdate {
    /// With the `weight_decay` given in place of the section's own, and beta1 read from `beta1`.
    pub fn adamw(settings: &AdamW, weight_decay: f64, beta1: Momentum) -> Self {
        let AdamW { betas: [_, beta2], eps, amsgrad, .. } = *settings;
        Self { beta1, beta2, eps, amsgrad, weight_decay, penalty: false }
    }

    /// Adam, likewise.
    pub fn adam(settings: &Adam, weight_decay: f64, beta1: Momentum) -> Self {
        let Adam { betas: [_, beta2], eps, .. } = *settings;
        Self { beta1, beta2, eps, amsgrad: false, weight_decay, penalty: true }
    }
}

/// A parameter's running moments.
#[derive(Clone, Debug)]
pub(super) struct AdamState<const D: usize> {
    step: usize,
    mean: Tensor<D>,
    square: Tensor<D>,
    largest_square: Option<Tensor<D>>,
}

impl<const D: usize> RecordState for AdamState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "step", self.step.into());
        out.push_tensor(prefix, "mean", self.mean.to_data());
        out.push_tensor(prefix, "square", self.square.to_data());
        if let Some(largest) = &self.largest_square {
            out.push_tensor(prefix, "largest_square", largest.to_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            step: source.take_scalar(prefix, "step")?.try_into().ok()?,
            mean: Tensor::from_data(source.take_tensor(prefix, "mean")?, device),
            square: Tensor::from_data(source.take_tensor(prefix, "square")?, device),
            largest_square: source.take_tensor(prefix, "largest_square").map(|data| Tensor::from_data(data, device)),
        })
    }
}

impl Optimizer for AdamUpdate {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let (beta1, beta2) = (self.beta1.get(), self.beta2);
        let gradient = match self.weight_decay {
            decay if self.penalty && decay != 0.0 => gradient + parameter.clone().mul_scalar(decay),
            _ => gradient,
        };
        let mean_part = gradient.clone().mul_scalar(1.0 - beta1);
        let square_part = gradient.square().mul_scalar(1.0 - beta2);
        let (step, mean, square, largest) = match state {
            Some(state) => (
                state.step + 1,
                state.mean.mul_scalar(beta1) + mean_part,
                state.square.mul_scalar(beta2) + square_part,
                state.largest_square,
            ),
            None => (1, mean_part, square_part, None),
        };
        let largest_square = self.amsgrad.then(|| match largest {
            Some(largest) => largest.max_pair(square.clone()),
            None => square.clone(),
        });

        let correction1 = 1.0 - beta1.powf(step as f64);
        let correction2 = 1.0 - beta2.powf(step as f64);
        let denominator = largest_square.as_ref().unwrap_or(&square).clone().sqrt();
        let denominator = denominator.div_scalar(correction2.sqrt()).add_scalar(self.eps);
        let update = mean.clone().mul_scalar(lr / correction1) / denominator;
        let parameter = match self.weight_decay {
            decay if !self.penalty && decay != 0.0 => parameter.mul_scalar(1.0 - lr * decay),
            _ => parameter,
        };
        (parameter - update, Some(AdamState { step, mean, square, largest_square }))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState {
            step: state.step,
            mean: state.mean.to_device(device),
            square: state.square.to_device(device),
            largest_square: state.largest_square.map(|largest| largest.to_device(device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_whatever_the_slope() {
        let device = Device::default();
        for slope in [1e-3f32, 1.0, 1e3] {
            let adamw = AdamUpdate::adamw(&AdamW::default(), 0.1, Momentum::new(0.9));
            let parameter = Tensor::<1>::full([1], 2.0, &device);
            let (moved, _) = adamw.step(0.01, parameter, Tensor::full([1], slope, &device), None);
            let expected = 2.0 * (1.0 - 0.001) - 0.01;
            assert!((moved.into_scalar::<f32>() - expected).abs() < 1e-5, "slope {slope}");
        }
    }

    #[test]
    fn amsgrad_remembers_the_largest_slope() {
        let device = Device::default();
        let run = |amsgrad| {
            let settings = AdamW { amsgrad, betas: [0.0, 0.5], ..AdamW::default() };
            let adamw = AdamUpdate::adamw(&settings, 0.0, Momentum::new(0.0));
            let (mut parameter, mut state) = (Tensor::<1>::zeros([1], &device), None);
            for slope in [10.0, 1.0, 1.0, 1.0, 1.0] {
                (parameter, state) = adamw.step(0.1, parameter, Tensor::full([1], slope, &device), state);
            }
            let state = state.unwrap();
            let largest = state.largest_square.map(|largest| largest.into_scalar::<f32>());
            (largest, state.square.into_scalar::<f32>())
        };
        assert_eq!(run(false).0, None);
        let (largest, last) = run(true);
        assert_eq!(largest, Some(50.0));
        assert!(last < 5.0, "{last}");
    }

    #[test]
    fn adams_weight_decay_goes_through_its_moments() {
        let device = Device::default();
        let adam = AdamUpdate::adam(&Adam::default(), 0.5, Momentum::new(0.9));
        let (mut parameter, mut state) = (Tensor::<1>::full([1], 2.0, &device), None);
        // By hand: g = slope + 0.5 w, m and v its running means, w -= 0.1 m^ / (sqrt v^ + eps).
        let (mut w, mut mean, mut square) = (2.0_f64, 0.0, 0.0);
        for (step, slope) in [(1, 0.3_f64), (2, -2.0), (3, 0.0)] {
            (parameter, state) = adam.step(0.1, parameter, Tensor::full([1], slope, &device), state);
            let g = slope + 0.5 * w;
            mean = 0.9 * mean + 0.1 * g;
            square = 0.999 * square + 0.001 * g * g;
            let (mean, square) = (mean / (1.0 - 0.9_f64.powi(step)), square / (1.0 - 0.999_f64.powi(step)));
            w -= 0.1 * mean / (square.sqrt() + 1e-8);
            let found = parameter.clone().into_scalar::<f32>();
            assert!((f64::from(found) - w).abs() < 1e-5, "step {step}: {found} instead of {w}");
        }
    }
}
