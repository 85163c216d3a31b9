//! The sections `optimizer` and `schedule`.

use super::range::{at_least_one, decay, decays, divisor, fraction, not_negative, positive};
use super::tagged::tagged;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

tagged! {
    /// The optimizer of the head. The backbone is frozen and has none.
    pub enum Optimizer by "name" (OptimizerName) {
        /// Stochastic gradient descent; T-TAME and TAME use it with Nesterov momentum.
        "sgd" => Sgd(Sgd),
        /// Adam with decoupled weight decay; P-TAME uses it with AMSGrad.
        "adamw" => AdamW(AdamW),
        /// Adam with an L2 penalty; the masking model's.
        "adam" => Adam(Adam),
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd(Sgd::default())
    }
}

impl Optimizer {
    /// The learning rate: the peak that the schedule scales down from.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.lr,
            Self::AdamW(adamw) => adamw.lr,
            Self::Adam(adam) => adam.lr,
        }
    }

    /// The largest global norm of the head's gradient; a larger one is scaled down to it.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Sgd(sgd) => sgd.clip_norm,
            Self::AdamW(adamw) => adamw.clip_norm,
            Self::Adam(adam) => adam.clip_norm,
        }
    }
}

/// Stochastic gradient descent with PyTorch's meaning of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate: the peak of the schedule. Above 0.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
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

/// AdamW with PyTorch's meaning, and defaults, of every key but `amsgrad`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate: the peak of the schedule. Above 0.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
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
    /// Learning rate: the peak of the schedule. Above 0.
    #[garde(custom(positive))]
    #[schemars(extend("exclusiveMinimum" = 0))]
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

tagged! {
    /// How the learning rate moves over the run, step by step.
    pub enum Schedule by "name" (ScheduleName) {
        /// Cosine up from `lr / div` to `lr`, then cosine down to `lr / div / final_div` (all TAME-family papers).
        "one_cycle" => OneCycle(OneCycle),
        /// Linear warm-up from 0, if any, then half a cosine down to `final_lr * lr`.
        "cosine" => Cosine(Cosine),
        /// Multiplied by `factor` every so many steps (the masking model's).
        "step_decay" => StepDecay(StepDecay),
        /// The same learning rate at every step.
        "constant" => Constant(Constant),
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::OneCycle(OneCycle::default())
    }
}

/// The OneCycle policy with PyTorch's defaults (Smith & Topin 2018, two cosine phases).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Fraction of the run's steps in which the learning rate rises.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// The run starts at `lr / div`.
    #[garde(custom(divisor))]
    #[schemars(range(min = 1.0))]
    pub div: f64,
    /// The run ends at `lr / div / final_div`.
    #[garde(custom(divisor))]
    #[schemars(range(min = 1.0))]
    pub final_div: f64,
    /// Moves momentum (SGD) or the first beta (AdamW) against the learning rate.
    #[garde(skip)]
    pub cycle_momentum: bool,
    /// Momentum at the peak of the learning rate.
    #[garde(custom(decay))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub base_momentum: f64,
    /// Momentum at the start and at the end of the run.
    #[garde(custom(decay))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_momentum: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { warmup: 0.3, div: 25.0, final_div: 1e4, cycle_momentum: true, base_momentum: 0.85, max_momentum: 0.95 }
    }
}

/// Half a cosine, by default without warm-up and down to 0 (Loshchilov & Hutter 2017, without restarts).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Fraction of the run's steps in which the learning rate rises from 0 to `lr`.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// Learning rate at the end, as a fraction of `lr`.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_lr: f64,
}

/// A staircase: `lr * factor^floor(step / every)`, PyTorch's `StepLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct StepDecay {
    /// Steps between two falls of the learning rate.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub every: usize,
    /// What each fall leaves of it.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

impl Default for StepDecay {
    fn default() -> Self {
        Self { every: 4000, factor: 0.1 }
    }
}

/// A constant learning rate has no keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Constant {}
