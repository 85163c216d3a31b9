//! The salient region of a heat map (Dabkowski and Gal, 2017), for `ssr` and `localisation-error`.

use crate::PixelBox;

/// Bounding box of the pixels whose value is at least `threshold` times the map's mean; `None` if no pixel's is.
pub(crate) fn salient_box(map: &[f32], width: usize, threshold: f64) -> Option<PixelBox> {
    let mean = map.iter().map(|value| f64::from(*value)).sum::<f64>() / map.len() as f64;
    // The sum is rounded: the values of a constant map must not fall below their own mean.
    let least = threshold * mean - 1e-9 * mean.abs();
    PixelBox::bounding(&map.iter().map(|value| f64::from(*value) >= least).collect::<Vec<_>>(), width)
}

/// Name of a metric with a threshold; 1 is the default.
pub(crate) fn name(stem: &str, threshold: f64) -> String {
    if threshold == 1.0 { stem.to_owned() } else { format!("{stem}@{threshold}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_bounds_what_reaches_the_threshold() {
        // 4 x 5 pixels, 0.8 in a rectangle of 2 x 2 and 0.2 elsewhere; the mean is 0.32.
        let map: Vec<f32> = (0..20).map(|i| if [6, 7, 11, 12].contains(&i) { 0.8 } else { 0.2 }).collect();
        let object = PixelBox { top: 1, left: 1, bottom: 3, right: 3 };
        assert_eq!([1.0, 2.0, 3.0].map(|t| salient_box(&map, 5, t)), [Some(object), Some(object), None]);
        let whole = PixelBox { top: 0, left: 0, bottom: 4, right: 5 };
        assert_eq!(salient_box(&[0.3; 20], 5, 1.0), Some(whole), "a constant map");
    }
}
