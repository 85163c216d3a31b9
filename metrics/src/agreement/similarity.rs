//! Similarity of two maps.

/// Side of SSIM's window in pixels.
const WINDOW: usize = 11;
/// Standard deviation of the window's Gaussian weights in pixels.
const SIGMA: f64 = 1.5;
/// The constants K1² and K2² for values in 0..1.
const STABILITY: [f64; 2] = [0.01 * 0.01, 0.03 * 0.03];

/// Structural similarity (Wang et al., 2004) of two maps with values in 0..=1, row by row with `width` columns. In -1..=1;
/// mean over all windows that lie inside the maps. `None` for maps with fewer than 11 rows or columns, or of two sizes.
#[must_use]
pub fn ssim(a: &[f32], b: &[f32], width: usize) -> Option<f64> {
    let height = a.len().checked_div(width)?;
    if width < WINDOW || height < WINDOW || a.len() != b.len() {
        return None;
    }
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let blurred = |values: Vec<f64>| windows(&values, width);
    let mean_a = blurred(pairs().map(|(a, _)| a).collect());
    let mean_b = blurred(pairs().map(|(_, b)| b).collect());
    let square_a = blurred(pairs().map(|(a, _)| a * a).collect());
    let square_b = blurred(pairs().map(|(_, b)| b * b).collect());
    let product = blurred(pairs().map(|(a, b)| a * b).collect());
    let [c1, c2] = STABILITY;
    let local = |at: usize| {
        let (m, n) = (mean_a[at], mean_b[at]);
        let (variances, covariance) = (square_a[at] - m * m + square_b[at] - n * n, product[at] - m * n);
        (2.0 * m * n + c1) * (2.0 * covariance + c2) / ((m * m + n * n + c1) * (variances + c2))
    };
    Some((0..mean_a.len()).map(local).sum::<f64>() / mean_a.len() as f64)
}

/// Gaussian weighted means of all windows that lie inside the map.
fn windows(values: &[f64], width: usize) -> Vec<f64> {
    let centre = (WINDOW / 2) as f64;
    let weights: Vec<f64> =
        (0..WINDOW).map(|tap| (-(tap as f64 - centre).powi(2) / (2.0 * SIGMA * SIGMA)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let weighted = |values: &mut dyn Iterator<Item = f64>| {
        values.zip(&weights).map(|(value, weight)| value * weight).sum::<f64>() / sum
    };
    let rows: Vec<Vec<f64>> = values
        .chunks(width)
        .map(|row| row.windows(WINDOW).map(|window| weighted(&mut window.iter().copied())).collect())
        .collect();
    let columns = width - WINDOW + 1;
    let across = |rows: &[Vec<f64>]| -> Vec<f64> {
        (0..columns).map(|column| weighted(&mut rows.iter().map(|row| row[column]))).collect()
    };
    rows.windows(WINDOW).flat_map(across).collect()
}

/// Spearman's rank correlation of two maps with the same number of values, in -1..=1; equal values share their mean rank.
/// `None` if `a` is constant, 0 if only `b` is. `None` for two sizes.
#[must_use]
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let [a, b] = [a, b].map(ranks);
    // The mean of the ranks 0 to n - 1; sharing does not change it.
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let (first, second) = (sum(&a, &a), sum(&b, &b));
    (first > 0.0).then(|| if second > 0.0 { sum(&a, &b) / (first * second).sqrt() } else { 0.0 })
}

/// Rank of each value, from 0; equal values share their mean rank.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = from as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|place| ranks[*place] = rank);
        from += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlations_worked_out_by_hand() {
        assert_eq!(ranks(&[0.3, 0.1, 0.3, 0.2]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(spearman(&[0.1, 0.2, 0.9], &[1.0, 5.0, 6.0]), Some(1.0));
        // Ranks 0 1 2 3 and 1 0 3 2: 1 - 6 * 4 / (4 * 15).
        assert!((spearman(&[0.0, 0.1, 0.2, 0.3], &[0.2, 0.1, 0.9, 0.3]).unwrap() - 0.6).abs() < 1e-12);
        // Ranks 0.5 0.5 2 and 0 1 2: 1.5 / sqrt(1.5 * 2).
        assert!((spearman(&[0.0, 0.0, 1.0], &[0.0, 0.5, 1.0]).unwrap() - 0.75_f64.sqrt()).abs() < 1e-12);
        assert_eq!((spearman(&[0.5; 3], &[0.0, 0.5, 1.0]), spearman(&[0.0, 0.5, 1.0], &[0.5; 3])), (None, Some(0.0)));
    }

    #[test]
    fn structural_similarities_that_have_a_closed_form() {
        let wavy: Vec<f32> = (0..13 * 15).map(|i| ((i * 7) as f32).sin() / 2.0 + 0.5).collect();
        assert!((ssim(&wavy, &wavy, 15).unwrap() - 1.0).abs() < 1e-12);
        // Of constants only the means differ: (2 m n + c1) / (m² + n² + c1).
        let found = ssim(&[0.25; 169], &[0.75; 169], 13).unwrap();
        assert!((found - (0.375 + 1e-4) / (0.625 + 1e-4)).abs() < 1e-9, "{found}");
        // Inverted, 1 - a: the covariance is minus the variance v. One window of alternating 0 and 1.
        let board: Vec<f32> = (0..121).map(|i| (i % 2) as f32).collect();
        let inverted: Vec<f32> = board.iter().map(|value| 1.0 - value).collect();
        let mean = windows(&board.iter().map(|value| f64::from(*value)).collect::<Vec<_>>(), 11)[0];
        let (m, n, v) = (mean, 1.0 - mean, mean - mean * mean);
        let expected = (2.0 * m * n + 1e-4) * (-2.0 * v + 9e-4) / ((m * m + n * n + 1e-4) * (2.0 * v + 9e-4));
        let found = ssim(&board, &inverted, 11).unwrap();
        assert!((found - expected).abs() < 1e-9 && found < -0.9, "{found} {expected}");
        assert_eq!(ssim(&[0.0; 100], &[0.0; 100], 10), None);
    }
}
