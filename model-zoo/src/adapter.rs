//! Feature-map adapters: what a tap shows as a map that an attention head can take.

use burn::tensor::Tensor;

use crate::backbone::{Tap, TapSpec};

/// A tap that is no square grid of patches.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tap {tap} shows {tokens} tokens, {prefix} of them before the patches: the rest is no square grid; use square images")]
pub struct NotSquare {
    /// The tap's name.
    pub tap: String,
    /// Tokens in all.
    pub tokens: usize,
    /// Class token and registers.
    pub prefix: usize,
}

/// A convolutional map as it is; tokens `[B,N,C]` without their prefix as `[B,C,sqrt N,sqrt N]`, patches in row-major
/// order (T-TAME's adapter for transformers).
///
/// # Errors
/// [`NotSquare`] if the patches are no square grid.
pub fn to_map(tap: Tap, spec: &TapSpec) -> Result<Tensor<4>, NotSquare> {
    let tokens = match tap {
        Tap::Map(map) => return Ok(map),
        Tap::Tokens(tokens) => tokens,
    };
    let [batch, count, channels] = tokens.dims();
    let prefix = spec.prefix_tokens.unwrap_or(0);
    let patches = count.saturating_sub(prefix);
    let side = patches.isqrt();
    if side * side != patches || side == 0 {
        return Err(NotSquare { tap: spec.name.clone(), tokens: count, prefix });
    }
    Ok(tokens.narrow(1, prefix, patches).swap_dims(1, 2).reshape([batch, channels, side, side]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn patches_become_rows() {
        let device = Device::default();
        let tokens = Tensor::<1, Int>::arange(0..10, &device).float().reshape([1, 5, 2]);
        let spec = TapSpec::tokens("blocks.0", 2, 14, 1);
        let map = to_map(Tap::Tokens(tokens), &spec).unwrap();
        assert_eq!(map.dims(), [1, 2, 2, 2]);
        // Token i holds the values 2i and 2i + 1; token 0 is the class token.
        assert_eq!(map.into_data().to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0, 3.0, 5.0, 7.0, 9.0]);
    }

    #[test]
    fn a_grid_that_is_not_square_is_refused() {
        let tokens = Tensor::<3>::zeros([1, 8, 2], &Device::default());
        let error = to_map(Tap::Tokens(tokens), &TapSpec::tokens("t", 2, 14, 1)).unwrap_err();
        assert_eq!(error, NotSquare { tap: "t".into(), tokens: 8, prefix: 1 });
    }
}
