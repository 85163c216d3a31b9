//! Areas under curves.

/// Area under the straight lines between points (x, y) whose x never falls, by the trapezoidal rule; 0 for fewer than two.
pub(crate) fn trapezoid(points: &[(f64, f64)]) -> f64 {
    points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

/// Area under values at even steps from 0 to 1: (sum s - s_0/2 - s_n/2) / n. NaN for fewer than two.
pub(crate) fn even(values: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return f64::NAN };
    (values.iter().sum::<f64>() - (first + last) / 2.0) / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_worked_out_by_hand() {
        // From 1 down to 0.5 over the first quarter, level up to the half, down to 0 at the end.
        let curve = [(0.0, 1.0), (0.25, 0.5), (0.5, 0.5), (1.0, 0.0)];
        assert_eq!(trapezoid(&curve), 0.25 * 0.75 + 0.25 * 0.5 + 0.5 * 0.25);
        assert_eq!(trapezoid(&[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.0)]), 0.5, "a step");
        assert_eq!(trapezoid(&curve[..1]), 0.0);
        // 1, 1/2, 1/4, 0 in thirds: (1/2 + 1/2 + 1/4) / 3.
        assert_eq!(even(&[1.0, 0.5, 0.25, 0.0]), 1.25 / 3.0);
        assert_eq!(even(&[0.0, 1.0]), 0.5);
        assert!(even(&[1.0]).is_nan() && even(&[]).is_nan());
    }
}
