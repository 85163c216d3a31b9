//! SGD, AdamW and Adam with PyTorch's arithmetic and a momentum that a schedule can move.
//!
//! Burn's own optimizers fix their momentum at construction, dampen SGD's by default, and differ from PyTorch in
//! AdamW's defaults (eps, weight decay); these take every figure from the config's section.

mod adam;
mod momentum;
mod sgd;

pub use momentum::Momentum;

use burn::{
    module::{ParamGroup, ParamGroupError},
    optim::{self, ModuleOptimizer},
};

pub use adam::{Adam, AdamW};
pub use sgd::Sgd;

use crate::tagged;
use adam::AdamUpdate;
use sgd::SgdUpdate;

/// Paths of bias parameters: what PyTorch names `*.bias`. Burn's normalisation layers name theirs `beta`.
const BIASES: &str = r"(^|\.)(bias|beta)$";

/// An optimizer cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// The group of biases is no valid pattern.
    #[error("the bias group's pattern `{BIASES}` was refused: {0:?}; this is a defect of this program")]
    Group(ParamGroupError),
}

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

    /// Error of keys that are valid one by one but not together; `at` is the path prefix of the section `optimizer`, with
    /// its trailing dot.
    pub fn problem(&self, at: &str) -> Option<String> {
        let Self::Sgd(sgd) = self else { return None };
        let wrong = sgd.nesterov && sgd.momentum == 0.0;
        wrong.then(|| {
            format!("{at}optimizer.nesterov: requires a momentum above 0; set `nesterov: false` or a momentum")
        })
    }

    /// Builds the optimizer, and the handle by which a schedule sets its momentum (AdamW, Adam: the first beta) before a
    /// step.
    ///
    /// Without `decay_biases`, parameters named `*.bias` in PyTorch (BatchNorm included) get no weight decay; BatchNorm
    /// weights do. The handle starts at the section's own momentum. It is not part of the optimizer's
    /// record: a resumed run sets it from the schedule again.
    ///
    /// # Errors
    /// When the group of parameters without weight decay cannot be made.
    pub fn build(&self) -> Result<(ModuleOptimizer, Momentum), OptimizerError> {
        match self {
            Self::Sgd(section) => {
                let knob = Momentum::new(section.momentum);
                let sgd = |decay| SgdUpdate::new(section, decay, knob.clone());
                Ok((grouped(sgd(section.weight_decay), sgd(0.0), section.decay_biases)?, knob))
            }
            Self::AdamW(section) => {
                let knob = Momentum::new(section.betas[0]);
                let adamw = |decay| AdamUpdate::adamw(section, decay, knob.clone());
                Ok((grouped(adamw(section.weight_decay), adamw(0.0), section.decay_biases)?, knob))
            }
            Self::Adam(section) => {
                let knob = Momentum::new(section.betas[0]);
                let adam = |decay| AdamUpdate::adam(section, decay, knob.clone());
                Ok((grouped(adam(section.weight_decay), adam(0.0), section.decay_biases)?, knob))
            }
        }
    }
}

/// `all` for every parameter, or `biases` for the biases among them.
fn grouped<O: optim::Optimizer>(all: O, biases: O, decay_biases: bool) -> Result<ModuleOptimizer, OptimizerError> {
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

    fn sections(decay_biases: bool) -> [Optimizer; 4] {
        let sgd = Sgd { weight_decay: 0.1, decay_biases, ..Sgd::default() };
        let amsgrad = AdamW { weight_decay: 0.1, decay_biases, amsgrad: true, ..AdamW::default() };
        let adamw = AdamW { amsgrad: false, ..amsgrad.clone() };
        let adam = Adam { weight_decay: 0.1, decay_biases, ..Adam::default() };
        [Optimizer::Sgd(sgd), Optimizer::AdamW(adamw), Optimizer::AdamW(amsgrad), Optimizer::Adam(adam)]
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
        for (decay_biases, section) in [false, true].into_iter().flat_map(|d| sections(d).map(|s| (d, s))) {
            let (mut optimizer, _) = section.build().unwrap();
            let head = bits(&step(&mut optimizer, head(), 0.0));
            let moved = head.map(|values| values.iter().any(|bits| f32::from_bits(*bits) != 1.0));
            assert_eq!(moved, [true, decay_biases, true, decay_biases], "{section:?}");
        }
    }

    #[test]
    fn a_restored_optimizer_takes_the_same_step_to_the_bit() {
        for section in sections(false) {
            let (mut original, knob) = section.build().unwrap();
            knob.set(0.7);
            let mut trained = head();
            for slope in [1.0, 0.01, -0.3] {
                trained = step(&mut original, trained, slope);
            }
            let record = original.to_record().into_bytes().unwrap();
            let (restored, other_knob) = section.build().unwrap();
            other_knob.set(0.7);
            let mut restored = restored.from_bytes(record).unwrap();
            let fresh = step(&mut section.build().unwrap().0, trained.clone(), 0.02);
            let expected = step(&mut original, trained.clone(), 0.02);
            let found = step(&mut restored, trained, 0.02);
            assert_eq!(bits(&found), bits(&expected), "{section:?}");
            assert_ne!(bits(&found), bits(&fresh), "{section:?}: the state made no difference");
        }
    }

    #[test]
    fn the_knob_moves_momentum() {
        for section in sections(false) {
            let run = |late: f64| {
                let (mut optimizer, knob) = section.build().unwrap();
                let once = step(&mut optimizer, head(), 1.0);
                knob.set(late);
                bits(&step(&mut optimizer, once, -0.5))
            };
            assert_eq!(run(0.9), run(0.9));
            assert_ne!(run(0.9), run(0.3), "{section:?}");
        }
    }
}
