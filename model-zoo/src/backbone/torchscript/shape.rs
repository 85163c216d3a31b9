//! Shapes: the specification of a tap from that of a probe, and the check of a batch's chunks.

use crate::backbone::TapSpec;

/// The specification of the tap `name`, whose output had shape `dims` for images of `side` pixels. The number of prefix tokens
/// is `prefix` if known, otherwise what the largest square leaves.
///
/// # Errors
/// What is wrong with the shape.
#[cfg_attr(not(feature = "tch"), allow(dead_code, reason = "called by the engine, tested everywhere"))]
pub fn tap_spec(name: &str, dims: &[usize], prefix: Option<usize>, side: usize) -> Result<TapSpec, String> {
    let wrong = |what: &str| Err(format!("tap {name} of shape {dims:?}, {what}"));
    match *dims {
        [_, channels, height, width] if height == width && channels * height > 0 => match stride(side, height) {
            Some(stride) => Ok(TapSpec::map(name, channels, stride)),
            None => wrong(&format!("whose cells are no whole number of the {side} pixels")),
        },
        [_, _, _, _] => wrong("which is no square map [B,C,h,h]"),
        [_, count, channels] if channels > 0 => {
            let grid = count.saturating_sub(prefix.unwrap_or(0)).isqrt();
            let before = count - grid * grid;
            if grid == 0 || prefix.is_some_and(|prefix| prefix != before) {
                return wrong("whose patches make no square");
            }
            if !side.is_multiple_of(grid) {
                return wrong(&format!("whose {grid} x {grid} patches do not tile {side} pixels"));
            }
            Ok(TapSpec::tokens(name, channels, side / grid, before))
        }
        _ => wrong("which is neither a map [B,C,h,h] nor tokens [B,N,C]"),
    }
}

/// The stride with which `side` pixels become `cells` positions, rounded up: a power of two if one fits.
fn stride(side: usize, cells: usize) -> Option<usize> {
    let fits = |stride: &usize| side.div_ceil(*stride) == cells;
    let powers = (0..usize::BITS).map_while(|power| 1usize.checked_shl(power)).take_while(|stride| *stride <= side);
    powers.chain([side.div_ceil(cells.max(1))]).find(|stride| *stride > 0 && fits(stride))
}

/// Checks that chunks of these shapes, concatenated along the first axis, have the shape `dims`.
///
/// # Errors
/// The chunk that does not fit, or the number of rows in all.
#[cfg_attr(not(feature = "tch"), allow(dead_code, reason = "called by the engine, tested everywhere"))]
pub fn check_parts(parts: &[Vec<usize>], dims: &[usize]) -> Result<(), String> {
    let fits = |part: &&Vec<usize>| part.len() == dims.len() && part.get(1..) == dims.get(1..);
    if let Some(part) = parts.iter().find(|part| !fits(part)) {
        return Err(format!("found a chunk of shape {part:?}, expected {dims:?} but for the number of images"));
    }
    let rows: usize = parts.iter().filter_map(|part| part.first()).sum();
    match dims.first() {
        Some(expected) if *expected == rows => Ok(()),
        _ => Err(format!("found {rows} rows in all chunks, expected the shape {dims:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_the_stride_that_gives_its_cells() {
        assert_eq!(tap_spec("a", &[2, 320, 7, 7], None, 224), Ok(TapSpec::map("a", 320, 32)));
        assert_eq!(tap_spec("a", &[2, 8, 9, 9], None, 260), Ok(TapSpec::map("a", 8, 32)));
        assert_eq!(tap_spec("a", &[2, 8, 32, 32], None, 224), Ok(TapSpec::map("a", 8, 7)));
        assert_eq!(tap_spec("a", &[2, 8, 224, 224], None, 224), Ok(TapSpec::map("a", 8, 1)));
        for wrong in [&[2, 8, 7, 8][..], &[2, 8, 0, 0], &[2, 0, 7, 7], &[2, 8, 300, 300], &[2, 8], &[2, 8, 7, 7, 1]] {
            let error = tap_spec("a", wrong, None, 224).unwrap_err();
            assert!(error.starts_with("tap a of shape ["), "{error}");
        }
    }

    #[test]
    fn chunks_of_other_shapes_are_refused() {
        let check =
            |parts: &[&[usize]]| check_parts(&parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), &[5, 4, 6]);
        assert_eq!(check(&[&[2, 4, 6], &[3, 4, 6]]), Ok(()));
        assert_eq!(check_parts(&[], &[0, 4]), Ok(()));
        // As many values in another order, fewer values, and more.
        for parts in [&[&[2, 4, 6][..], &[3, 6, 4]][..], &[&[2, 4, 6], &[3, 2, 6]], &[&[5, 24]], &[&[5, 4, 6, 1]]] {
            assert!(check(parts).is_err_and(|error| error.starts_with("found a chunk of shape [")), "{parts:?}");
        }
        for parts in [&[&[2, 4, 6][..]][..], &[&[3, 4, 6], &[3, 4, 6]], &[]] {
            assert!(check(parts).is_err_and(|error| error.contains("rows in all chunks")), "{parts:?}");
        }
    }

    #[test]
    fn prefix_tokens_are_what_the_largest_square_leaves() {
        assert_eq!(tap_spec("t", &[2, 257, 384], None, 224), Ok(TapSpec::tokens("t", 384, 14, 1)));
        assert_eq!(tap_spec("t", &[2, 261, 384], None, 224), Ok(TapSpec::tokens("t", 384, 14, 5)));
        assert_eq!(tap_spec("t", &[2, 261, 384], Some(5), 224), Ok(TapSpec::tokens("t", 384, 14, 5)));
        assert_eq!(tap_spec("t", &[2, 196, 384], None, 224), Ok(TapSpec::tokens("t", 384, 16, 0)));
        assert!(tap_spec("t", &[2, 257, 384], Some(2), 224).is_err_and(|e| e.contains("no square")));
        assert!(tap_spec("t", &[2, 257, 384], None, 225).is_err_and(|e| e.contains("16 x 16 patches do not tile 225")));
        assert!(tap_spec("t", &[2, 0, 384], None, 224).is_err());
    }
}
