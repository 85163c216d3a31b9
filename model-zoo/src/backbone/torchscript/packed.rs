//! Packed weights: optional methods of a TorchScript that make the forward pass of a single image faster on a CPU.

use std::sync::{Mutex, PoisonError};

use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::output::Output;

/// The method that returns the weights in the layout of oneDNN's convolutions for a single image.
const PACKED: &str = "packed";
/// The method that computes what `forward` does, without a gradient, with those weights.
const OBSERVED: &str = "observed";

/// The largest difference between the outputs of packed weights and of `forward`, relative to the largest value. Both round
/// differently: f32 has 24 bits of precision, bf16 has 8, and errors accumulate over the layers of a network.
fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::BFloat16 { 0.05 } else { 1e-3 }
}

/// Packed weights. A tensor of LibTorch is `Send` but not `Sync`.
#[derive(Debug)]
pub struct Packed(Mutex<Vec<Tensor>>);

impl Packed {
    /// Packs the weights of `module`; `None` where the CPU cannot, as some cannot in bf16.
    pub fn new(module: &CModule) -> Option<Self> {
        match tch::no_grad(|| module.method_is::<IValue>(PACKED, &[])) {
            Ok(IValue::TensorList(weights)) => Some(Self(Mutex::new(weights))),
            _ => None,
        }
    }

    /// The output of `module` for a single image.
    pub fn run(&self, module: &CModule, image: &Tensor) -> Result<IValue, TchError> {
        // The lock is not held while the network runs.
        let weights = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Tensor::shallow_clone).collect();
        let inputs = [IValue::Tensor(image.shallow_clone()), IValue::TensorList(weights)];
        tch::no_grad(|| module.method_is(OBSERVED, &inputs))
    }

    /// Zero weights of the same shapes, and their number.
    #[cfg(test)]
    pub fn emptied(&self) -> (Self, usize) {
        let weights = self.0.lock().unwrap();
        let empty: Vec<Tensor> = weights.iter().map(|weight| weight * 0.0).collect();
        let count = empty.len();
        (Self(Mutex::new(empty)), count)
    }
}

/// Whether the logits and taps of `found` are those of `expected`, up to the rounding of `kind`.
pub fn agree(found: &Output, expected: &Output, kind: Kind) -> bool {
    let close = |found: &Tensor, expected: &Tensor| close(found, expected, tolerance(kind));
    let names = |output: &Output| output.taps.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut taps = found.taps.iter().zip(&expected.taps);
    names(found) == names(expected)
        && close(&found.logits, &expected.logits)
        && taps.all(|((_, found), (_, expected))| close(found, expected))
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f64) -> bool {
    let off = || -> Result<(f64, f64), TchError> {
        let expected = expected.f_to_kind(Kind::Double)?;
        let off = found.f_to_kind(Kind::Double)?.f_sub(&expected)?;
        let largest = |values: &Tensor| f64::try_from(values.f_abs()?.f_max()?);
        Ok((largest(&off)?, largest(&expected)?))
    };
    found.size() == expected.size() && off().is_ok_and(|(off, largest)| off <= tolerance * largest)
}
