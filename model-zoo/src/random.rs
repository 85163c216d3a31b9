//! Random numbers that are a pure function of a seed, a purpose and numbers, on every machine.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A random stream of its own for each (seed, purpose, numbers).
///
/// The purpose keeps streams apart that would otherwise be drawn from the same numbers, e.g. `"order"` and `"crop"`.
#[must_use]
pub fn stream(seed: u64, purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose);
    hash.update(seed.to_le_bytes());
    for number in numbers {
        hash.update(number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(hash.finalize().into())
}
