//! The momentum that a schedule sets and an optimizer reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// SGD's momentum or Adam's first beta, shared by the training loop, which sets it, and the optimizer, which reads it
/// at every step. Clones share one value.
#[derive(Clone, Debug)]
pub struct Momentum(Arc<AtomicU64>);

impl Momentum {
    /// A momentum of `value`, in 0..1.
    pub fn new(value: f64) -> Self {
        Self(Arc::new(AtomicU64::new(value.to_bits())))
    }

    /// The present value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Moves it, for every holder.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}
