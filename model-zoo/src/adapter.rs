//! Feature-map adapters: a tap as a map `[B,C,h,w]`, and back.

use burn::tensor::Tensor;

use crate::backbone::{Tap, TapSpec};

/// A tap whose patches do not form a square grid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tap {tap}: images of {side} pixels are not a whole number of patches of {patch} pixels; set data.crop to a multiple of {patch}"
)]
pub struct AdapterError {
    /// The tap's name.
    pub tap: String,
    /// Side of the images.
    pub side: usize,
    /// Side of a patch.
    pub patch: usize,
}

/// The adapter of one tap, for square images of one size.
///
/// A convolutional map is unchanged. Tokens `[B,N,C]` lose their prefix tokens and become `[B,C,h,h]` with h^2 patches in
/// row-major order (T-TAME's adapter for transformers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter {
    prefix: usize,
    grid: usize,
}

impl Adapter {
    /// The adapter of a tap for images of `side` pixels.
    ///
    /// # Errors
    /// [`AdapterError`] if the side is not a multiple of the patch size of a transformer.
    pub fn new(tap: &TapSpec, side: usize) -> Result<Self, AdapterError> {
        if tap.prefix_tokens.is_some() && !side.is_multiple_of(tap.stride) {
            return Err(AdapterError { tap: tap.name.clone(), side, patch: tap.stride });
        }
        Ok(Self { prefix: tap.prefix_tokens.unwrap_or(0), grid: tap.grid(side) })
    }

    /// The tap as a map `[B,C,h,w]`.
    pub fn apply(&self, tap: Tap) -> Tensor<4> {
        match tap {
            Tap::Map(map) => map,
            Tap::Tokens(tokens) => {
                let [batch, _, channels] = tokens.dims();
                let patches = tokens.narrow(1, self.prefix, self.grid * self.grid);
                patches.swap_dims(1, 2).reshape([batch, channels, self.grid, self.grid])
            }
        }
    }

    /// The inverse of [`Adapter::apply`]: a map `[B,C,h,w]` as a tap. Prefix tokens are those of `original`.
    pub fn restore(&self, map: Tensor<4>, original: &Tap) -> Tap {
        match original {
            Tap::Map(_) => Tap::Map(map),
            Tap::Tokens(tokens) => {
                let [batch, channels, height, width] = map.dims();
                let patches = map.reshape([batch, channels, height * width]).swap_dims(1, 2);
                if self.prefix == 0 {
                    return Tap::Tokens(patches);
                }
                Tap::Tokens(Tensor::cat(vec![tokens.clone().narrow(1, 0, self.prefix), patches], 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn tokens_become_a_map_and_back() {
        let device = Device::default();
        let tokens = Tensor::<1, Int>::arange(0..10, &device).float().reshape([1, 5, 2]);
        let adapter = Adapter::new(&TapSpec::tokens("blocks.0", 2, 14, 1), 28).unwrap();
        let tap = Tap::Tokens(tokens.clone());
        let map = adapter.apply(tap.clone());
        assert_eq!(map.dims(), [1, 2, 2, 2]);
        // Token i holds the values 2i and 2i + 1; token 0 is the class token.
        assert_eq!(map.clone().into_data().try_to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0, 3.0, 5.0, 7.0, 9.0]);
        let Tap::Tokens(back) = adapter.restore(map, &tap) else { panic!("expected tokens") };
        assert_eq!(back.into_data(), tokens.into_data());
    }

    #[test]
    fn patches_that_do_not_tile_the_image_are_refused() {
        let error = Adapter::new(&TapSpec::tokens("t", 2, 14, 1), 225).unwrap_err();
        assert_eq!(error, AdapterError { tap: "t".into(), side: 225, patch: 14 });
    }
}
