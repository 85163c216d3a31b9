//! SGD and AdamW with PyTorch's arithmetic and a momentum that a schedule can move.
//!
//! Burn's own optimizers fix their momentum at construction, dampen SGD's by default, and differ from PyTorch in
//! AdamW's defaults (eps, weight decay); these take every figure from their settings.

mod adamw;
mod momentum;
mod sgd;

pub use adamw::{AdamW, AdamWSettings, AdamWState};
pub use momentum::Momentum;
pub use sgd::{Sgd, SgdSettings, SgdState};

use burn::{
    module::{ParamGroup, ParamGroupError},
    optim::{ModuleOptimizer, Optimizer},
};
use serde::{Deserialize, Serialize};

/// Paths of bias parameters: what PyTorch names `*.bias`. Burn's normalisation layers name theirs `beta`.
const BIASES: &str = r"(^|\.)(bias|beta)$";

/// Which optimizer, and its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerSettings {
    /// Stochastic gradient descent with momentum.
    Sgd(SgdSettings),
    /// Adam with decoupled weight decay.
    AdamW(AdamWSettings),
}

/// An optimizer cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// The group of biases is no valid pattern.
    #[error("the bias group's pattern `{BIASES}` was refused: {0:?}; this is a defect of this program")]
    Group(ParamGroupError),
}

impl OptimizerSettings {
    /// Builds the optimizer and the knob that a schedule moves its momentum with ([`Momentum::set`], before a step).
    ///
    /// The knob starts at the settings' own momentum and is no part of the optimizer's record: a resumed run sets it
    /// from the schedule again. AdamW listens to it only with [`AdamWSettings::cycle_beta1`].
    ///
    /// # Errors
    /// When the group of parameters without weight decay cannot be made.
    pub fn build(&self) -> Result<(ModuleOptimizer, Momentum), OptimizerError> {
        match self {
            Self::Sgd(settings) => {
                let knob = Momentum::new(settings.momentum);
                let sgd = |decay| Sgd::new(settings, decay, knob.clone());
                let optimizer = grouped(sgd(settings.weight_decay), sgd(0.0), settings.decay_biases)?;
                Ok((optimizer, knob))
            }
            Self::AdamW(settings) => {
                let knob = Momentum::new(settings.beta1);
                let beta1 = if settings.cycle_beta1 { knob.clone() } else { Momentum::new(settings.beta1) };
                let adamw = |decay| AdamW::new(settings, decay, beta1.clone());
                let optimizer = grouped(adamw(settings.weight_decay), adamw(0.0), settings.decay_biases)?;
                Ok((optimizer, knob))
            }
        }
    }
}

/// `all` for every parameter, or `biases` for the biases among them.
fn grouped<O: Optimizer>(all: O, biases: O, decay_biases: bool) -> Result<ModuleOptimizer, OptimizerError> {
    let optimizer = ModuleOptimizer::from(all);
    if decay_biases {
        return Ok(optimizer);
    }
    let group = ParamGroup::from_regex(BIASES).map_err(OptimizerError::Group)?;
    Ok(optimizer.with_group(group, biases, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::{Module, Param},
        nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
        optim::GradientsParams,
        tensor::{Device, Tensor},
    };

    #[derive(Module, Debug)]
    struct Head {
        linear: Linear,
        norm: BatchNorm,
    }

    fn head() -> Head {
        let device = Device::default().autodiff();
        let filled = |value, shape| Tensor::<2>::full(shape, value, &device);
        let mut linear = LinearConfig::new(3, 2).init(&device);
        linear.weight = Param::from_tensor(filled(1.0, [3, 2]));
        linear.bias = Some(Param::from_tensor(filled(1.0, [1, 2]).reshape([2])));
        let mut norm = BatchNormConfig::new(2).init(&device);
        norm.beta = Param::from_tensor(filled(1.0, [1, 2]).reshape([2]));
        Head { linear, norm }
    }

    fn settings(decay_biases: bool) -> [OptimizerSettings; 3] {
        let sgd = SgdSettings { weight_decay: 0.1, decay_biases, ..SgdSettings::default() };
        let adamw = AdamWSettings { weight_decay: 0.1, decay_biases, ..AdamWSettings::default() };
        let amsgrad = AdamWSettings { amsgrad: true, cycle_beta1: true, ..adamw.clone() };
        [OptimizerSettings::Sgd(sgd), OptimizerSettings::AdamW(adamw), OptimizerSettings::AdamW(amsgrad)]
    }

    /// One step under the gradient `slope` for every parameter.
    fn step(optimizer: &mut ModuleOptimizer, head: Head, slope: f32) -> Head {
        let mut gradients = GradientsParams::new();
        let device = Device::default();
        let vector = || Tensor::<1>::full([2], slope, &device);
        gradients.register(head.linear.weight.id, Tensor::<2>::full([3, 2], slope, &device));
        gradients.register(head.linear.bias.as_ref().unwrap().id, vector());
        gradients.register(head.norm.gamma.id, vector());
        gradients.register(head.norm.beta.id, vector());
        optimizer.step(0.5, head, gradients)
    }

    /// Bit patterns of weight, bias, gamma and beta.
    fn bits(head: &Head) -> [Vec<u32>; 4] {
        fn of<const D: usize>(parameter: &Param<Tensor<D>>) -> Vec<u32> {
            parameter.val().try_into_vec_as::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        }
        [of(&head.linear.weight), of(head.linear.bias.as_ref().unwrap()), of(&head.norm.gamma), of(&head.norm.beta)]
    }

    #[test]
    fn biases_are_spared_weight_decay_where_asked() {
        for (decay_biases, settings) in [false, true].into_iter().flat_map(|d| settings(d).map(|s| (d, s))) {
            let (mut optimizer, _) = settings.build().unwrap();
            let head = bits(&step(&mut optimizer, head(), 0.0));
            let moved = head.map(|values| values.iter().any(|bits| f32::from_bits(*bits) != 1.0));
            assert_eq!(moved, [true, decay_biases, true, decay_biases], "{settings:?}");
        }
    }

    #[test]
    fn a_restored_optimizer_takes_the_same_step_to_the_bit() {
        for settings in settings(false) {
            let (mut original, knob) = settings.build().unwrap();
            knob.set(0.7);
            let mut trained = head();
            for slope in [1.0, 0.01, -0.3] {
                trained = step(&mut original, trained, slope);
            }
            let record = original.to_record().into_bytes().unwrap();
            let (restored, other_knob) = settings.build().unwrap();
            other_knob.set(0.7);
            let mut restored = restored.from_bytes(record).unwrap();
            let fresh = step(&mut settings.build().unwrap().0, trained.clone(), 0.02);
            let expected = step(&mut original, trained.clone(), 0.02);
            let found = step(&mut restored, trained, 0.02);
            assert_eq!(bits(&found), bits(&expected), "{settings:?}");
            assert_ne!(bits(&found), bits(&fresh), "{settings:?}: the state made no difference");
        }
    }

    #[test]
    fn the_knob_moves_momentum_where_the_optimizer_listens() {
        for (settings, listens) in settings(false).into_iter().zip([true, false, true]) {
            let run = |late: f64| {
                let (mut optimizer, knob) = settings.build().unwrap();
                let once = step(&mut optimizer, head(), 1.0);
                knob.set(late);
                bits(&step(&mut optimizer, once, -0.5))
            };
            assert_eq!(run(0.9) != run(0.3), listens, "{settings:?}");
        }
    }
}
