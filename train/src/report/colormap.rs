//! The colour map of heat maps.

/// The colour of `value`, which is clamped to 0..=1.
///
/// The colour map is *inferno*: its brightness increases uniformly with the value. Equal steps look equal, the largest value
/// is the brightest also for colour-blind readers and in grey print, and it shows no edges that the map does not have, as
/// rainbow colour maps do. NaN becomes a cyan that the colour map does not have.
pub fn heat(value: f32) -> [u8; 3] {
    if value.is_nan() {
        return [0, 255, 255];
    }
    colorous::INFERNO.eval_continuous(f64::from(value.clamp(0.0, 1.0))).as_array().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_black_and_pale_yellow() {
        assert_eq!(heat(0.0), [0, 0, 4]);
        assert_eq!(heat(1.0), [252, 255, 164]);
        assert_eq!(heat(-3.0), heat(0.0));
        assert_eq!(heat(f32::INFINITY), heat(1.0));
    }

    #[test]
    fn brightness_never_falls() {
        let luma = |[r, g, b]: [u8; 3]| 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
        let scale: Vec<u32> = (0..=100).map(|i| luma(heat(i as f32 / 100.0))).collect();
        assert!(scale.windows(2).all(|pair| pair[0] <= pair[1] + 1000), "{scale:?}");
    }

    #[test]
    fn a_broken_value_stands_out() {
        let scale: Vec<[u8; 3]> = (0..=1000).map(|i| heat(i as f32 / 1000.0)).collect();
        assert!(!scale.contains(&heat(f32::NAN)));
    }
}
