//! Weights laid out for one image: what a TorchScript may have beside `forward`, for speed alone.

use std::sync::{Mutex, PoisonError};

use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::output::Output;

/// The method that lays the weights out as the CPU's convolutions take them for one image, and the one that computes with
/// them as `forward` does, but without a gradient.
const LAY_OUT: &str = "packed";
const OBSERVED: &str = "observed";
/// How far logits and taps may be from `forward`'s, relative to the largest: bf16's rounding over a whole network. This tells a
/// wrong program, not a rounded one.
const ROUNDING: f64 = 0.1;

/// Packed weights. A tensor may be sent to another thread, but not shared with it.
#[derive(Debug)]
pub struct Packed(Mutex<Vec<Tensor>>);

impl Packed {
    /// Lays out the weights of `module`; `None` where this CPU cannot, as some cannot in bf16.
    pub fn new(module: &CModule) -> Option<Self> {
        match tch::no_grad(|| module.method_is::<IValue>(LAY_OUT, &[])) {
            Ok(IValue::TensorList(weights)) => Some(Self(Mutex::new(weights))),
            _ => None,
        }
    }

    /// What `module` returns for one image.
    pub fn run(&self, module: &CModule, image: &Tensor) -> Result<IValue, TchError> {
        // Not locked while the network runs.
        let weights = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Tensor::shallow_clone).collect();
        let inputs = [IValue::Tensor(image.shallow_clone()), IValue::TensorList(weights)];
        tch::no_grad(|| module.method_is(OBSERVED, &inputs))
    }

    /// The same weights with nothing in them, and how many there are.
    #[cfg(test)]
    pub fn emptied(&self) -> (Self, usize) {
        let weights = self.0.lock().unwrap();
        let empty: Vec<Tensor> = weights.iter().map(|weight| weight * 0.0).collect();
        let count = empty.len();
        (Self(Mutex::new(empty)), count)
    }
}

/// Whether `found` is the answer `expected`: logits and taps.
pub fn agree(found: &Output, expected: &Output) -> bool {
    let names = |output: &Output| output.taps.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut taps = found.taps.iter().zip(&expected.taps);
    names(found) == names(expected)
        && close(&found.logits, &expected.logits)
        && taps.all(|((_, found), (_, expected))| close(found, expected))
}

fn close(found: &Tensor, expected: &Tensor) -> bool {
    let off = || -> Result<(f64, f64), TchError> {
        let expected = expected.f_to_kind(Kind::Double)?;
        let off = found.f_to_kind(Kind::Double)?.f_sub(&expected)?;
        let largest = |values: &Tensor| f64::try_from(values.f_abs()?.f_max()?);
        Ok((largest(&off)?, largest(&expected)?))
    };
    found.size() == expected.size() && off().is_ok_and(|(off, largest)| off <= ROUNDING * largest)
}
