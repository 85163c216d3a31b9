//! Bayesian logistic regression with Laplace's approximation (Chapelle and Li, 2011, algorithm 3), one observation at a
//! time, where the context is learned along with the weights.
//!
//! The weights of an arm are N(mu, diag(1/q)). After a reward y = +-1 in context c = theta phi the new mean is the w of
//!
//! min over (w, theta) of 1/2 sum_i q_i (w_i - mu_i)^2 + rho/2 |theta - theta_0|^2 + log(1 + exp(-y <w, c>)),
//!
//! and the new precision q_i + c_i^2 p (1 - p), p = sigmoid(<w, c>), both at the minimum. The term in rho is the prior
//! of theta, in the form of that of w: without one the minimum would lie at infinity, theta growing as w shrinks.

use super::stream::SplitMix64;

/// The posterior of the weights of one arm, and its counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// mu: the weights' mean.
    pub mean: Vec<f64>,
    /// q: the weights' precision, one over the variance, dimension by dimension.
    pub precision: Vec<f64>,
    /// How often it was played.
    pub plays: u64,
    /// How often it was rewarded with +1.
    pub wins: u64,
}

impl Arm {
    /// The prior in `dimensions` dimensions: mean 0, precision 1, never played.
    pub fn prior(dimensions: usize) -> Self {
        Self { mean: vec![0.0; dimensions], precision: vec![1.0; dimensions], plays: 0, wins: 0 }
    }

    /// Weights drawn from N(mu, diag(1/q)).
    pub fn draw(&self, stream: &mut SplitMix64) -> Vec<f64> {
        self.mean.iter().zip(&self.precision).map(|(mu, q)| mu + stream.normal() / q.sqrt()).collect()
    }

    /// Mean and standard deviation of <w, c>.
    pub fn logit(&self, context: &[f64]) -> (f64, f64) {
        let variance: f64 = context.iter().zip(&self.precision).map(|(c, q)| c * c / q).sum();
        (dot(&self.mean, context), variance.sqrt())
    }

    /// Learns from a reward (+1 or -1) in a context whose representation may move by `reach`, |phi|^2 / rho, and
    /// returns by how much it moved; see [`Minimum`].
    pub fn learn(&mut self, context: &[f64], reach: f64, reward: bool) -> Minimum {
        let found = minimise(&self.mean, &self.precision, context, reach, reward);
        let p = sigmoid(dot(&found.weights, &found.context));
        for (q, c) in self.precision.iter_mut().zip(&found.context) {
            *q += c * c * p * (1.0 - p);
        }
        self.mean.clone_from(&found.weights);
        self.plays += 1;
        self.wins += u64::from(reward);
        found
    }
}

/// The minimum of this module's objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimum {
    /// w.
    pub weights: Vec<f64>,
    /// c = theta phi, with the new theta.
    pub context: Vec<f64>,
    /// a = y sigmoid(-y <w, c>), by which theta = theta_0 + a/rho w phi^T.
    pub pull: f64,
}

/// The minimum of the objective over w and theta, to rounding; `reach` is |phi|^2 / rho, 0 for a theta that stays as it
/// is.
///
/// Where the gradient is 0, w = mu + a c/q and c = c_0 + a `reach` w with one unknown number a, so that for a given a
/// both follow: w_i = (mu_i + a c_0i / q_i) / (1 - a^2 `reach` / q_i). One equation remains, a = y sigmoid(-y
/// <w, c>), whose right side falls as |a| rises from 0 to 1, so that bisection finds its one solution. For this `reach`
/// must be below every q; a larger one is cut there.
pub fn minimise(mean: &[f64], precision: &[f64], context: &[f64], reach: f64, reward: bool) -> Minimum {
    let sign = if reward { 1.0 } else { -1.0 };
    let reach = precision.iter().fold(reach.max(0.0), |reach, q| reach.min(0.999 * q));
    let at = |pull: f64| {
        let weights: Vec<f64> = (mean.iter().zip(precision).zip(context))
            .map(|((mu, q), c)| (mu + pull * c / q) / (1.0 - pull * pull * reach / q))
            .collect();
        let context = context.iter().zip(&weights).map(|(c, w)| c + pull * reach * w).collect();
        Minimum { weights, context, pull }
    };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high || high - low < f64::EPSILON * low {
            return at(sign * middle);
        }
        let found = at(sign * middle);
        match middle < sigmoid(-sign * dot(&found.weights, &found.context)) {
            true => low = middle,
            false => high = middle,
        }
    }
}

/// 1 / (1 + exp(-x)), without overflow.
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// <a, b>
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem of some size: mean, precision, context, features.
    fn problem(seed: u64, dimensions: usize, features: usize) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>, Vec<f64>) {
        let mut stream = SplitMix64::new(seed, "problem", &[]);
        let mean = (0..dimensions).map(|_| stream.normal()).collect();
        let precision = (0..dimensions).map(|_| 1.0 + 5.0 * stream.unit()).collect();
        let theta = (0..dimensions).map(|_| (0..features).map(|_| stream.normal()).collect()).collect();
        let phi: Vec<f64> = (0..features).map(|_| stream.normal()).collect();
        let norm = dot(&phi, &phi).sqrt();
        (mean, precision, theta, phi.iter().map(|x| x / norm).collect())
    }

    fn product(theta: &[Vec<f64>], phi: &[f64]) -> Vec<f64> {
        theta.iter().map(|row| dot(row, phi)).collect()
    }

    fn softplus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    #[test]
    fn one_dimension_has_a_known_solution() {
        // mu = 0, q = 1, c = 1, y = 1: w = sigmoid(-w), w (1 + e^w) = 1.
        let found = minimise(&[0.0], &[1.0], &[1.0], 0.0, true);
        let w = 0.401_058_137_541_547_04;
        assert!((found.weights[0] - w).abs() < 1e-14, "{}", found.weights[0]);
        assert!((found.pull - w).abs() < 1e-14);
        assert!((minimise(&[0.0], &[1.0], &[1.0], 0.0, false).weights[0] + w).abs() < 1e-14, "mirrored");
        let mut arm = Arm::prior(1);
        arm.learn(&[1.0], 0.0, true);
        let p = sigmoid(w);
        assert!((arm.precision[0] - (1.0 + p * (1.0 - p))).abs() < 1e-14);
        assert_eq!((arm.plays, arm.wins), (1, 1));
    }

    /// With theta fixed the problem is convex in w: Newton's method with a full Hessian, written without any of the
    /// algebra above, has to come to the same weights.
    #[test]
    fn the_mean_is_that_of_newtons_method() {
        for (seed, reward) in [(1, true), (2, false), (3, true), (4, false)] {
            let (mu, q, theta, phi) = problem(seed, 12, 5);
            let c = product(&theta, &phi);
            let y = if reward { 1.0 } else { -1.0 };
            let mut w = mu.clone();
            for _ in 0..100 {
                let s = sigmoid(-y * dot(&w, &c));
                let gradient: Vec<f64> = (0..12).map(|i| q[i] * (w[i] - mu[i]) - y * s * c[i]).collect();
                let hessian = |i: usize, j: usize| s * (1.0 - s) * c[i] * c[j] + if i == j { q[i] } else { 0.0 };
                let step = solve((0..12).map(|i| (0..12).map(|j| hessian(i, j)).collect()).collect(), gradient);
                w.iter_mut().zip(step).for_each(|(w, step)| *w -= step);
            }
            let found = minimise(&mu, &q, &c, 0.0, reward);
            for (found, expected) in found.weights.iter().zip(&w) {
                assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
            }
            assert_eq!(found.context, c);
        }
    }

    /// Gaussian elimination with pivots.
    fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        let n = b.len();
        for column in 0..n {
            let pivot = (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs())).unwrap();
            a.swap(column, pivot);
            b.swap(column, pivot);
            for row in column + 1..n {
                let factor = a[row][column] / a[column][column];
                let above = a[column].clone();
                a[row].iter_mut().zip(above).for_each(|(x, above)| *x -= factor * above);
                b[row] -= factor * b[column];
            }
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|k| a[row][k] * b[k]).sum();
            b[row] = (b[row] - known) / a[row][row];
        }
        b
    }

    /// The joint problem: descending the gradient over every entry of w and theta, from where they were, comes to the
    /// same point, and every step away from it goes up.
    #[test]
    fn weights_and_theta_are_at_the_joint_minimum() {
        for (seed, rho, reward) in [(1, 1.5, true), (2, 4.0, false), (3, 20.0, true)] {
            let (mu, q, before, phi) = problem(seed, 6, 4);
            let y = if reward { 1.0 } else { -1.0 };
            let found = minimise(&mu, &q, &product(&before, &phi), 1.0 / rho, reward);
            let theta: Vec<Vec<f64>> = (before.iter().zip(&found.weights))
                .map(|(row, w)| row.iter().zip(&phi).map(|(t, x)| t + found.pull / rho * w * x).collect())
                .collect();
            for (c, expected) in found.context.iter().zip(product(&theta, &phi)) {
                assert!((c - expected).abs() < 1e-12, "the context is that of the new theta");
            }

            let objective = |w: &[f64], theta: &[Vec<f64>]| {
                let weights: f64 = (0..6).map(|i| 0.5 * q[i] * (w[i] - mu[i]).powi(2)).sum();
                let moved: f64 =
                    theta.iter().flatten().zip(before.iter().flatten()).map(|(t, b)| (t - b).powi(2)).sum();
                weights + 0.5 * rho * moved + softplus(-y * dot(w, &product(theta, &phi)))
            };
            let (mut w, mut t) = (mu.clone(), before.clone());
            for _ in 0..20_000 {
                let c = product(&t, &phi);
                let a = y * sigmoid(-y * dot(&w, &c));
                let old = w.clone();
                w.iter_mut().enumerate().for_each(|(i, w)| *w -= 0.02 * (q[i] * (*w - mu[i]) - a * c[i]));
                for (i, row) in t.iter_mut().enumerate() {
                    for (j, t) in row.iter_mut().enumerate() {
                        *t -= 0.02 * (rho * (*t - before[i][j]) - a * old[i] * phi[j]);
                    }
                }
            }
            for (found, descended) in found.weights.iter().zip(&w) {
                assert!((found - descended).abs() < 1e-8, "rho {rho}: {found} against {descended}");
            }
            let least = objective(&found.weights, &theta);
            assert!(least <= objective(&w, &t) + 1e-12);
            let mut stream = SplitMix64::new(seed, "away", &[]);
            for _ in 0..200 {
                let size = 10.0_f64.powf(-4.0 * stream.unit());
                let w: Vec<f64> = found.weights.iter().map(|w| w + size * stream.normal()).collect();
                let t: Vec<Vec<f64>> =
                    theta.iter().map(|row| row.iter().map(|t| t + size * stream.normal()).collect()).collect();
                assert!(objective(&w, &t) > least, "rho {rho}: a step of {size} goes down");
            }
        }
    }

    #[test]
    fn the_precision_grows_in_each_dimension_by_its_own_share() {
        let (mean, precision, theta, phi) = problem(7, 9, 3);
        let context = product(&theta, &phi);
        let mut arm = Arm { mean, precision: precision.clone(), plays: 3, wins: 2 };
        let found = arm.learn(&context, 0.2, false);
        let p = sigmoid(dot(&arm.mean, &found.context));
        for ((before, after), c) in precision.iter().zip(&arm.precision).zip(&found.context) {
            assert!((after - before - c * c * p * (1.0 - p)).abs() < 1e-12);
        }
        assert_eq!((arm.plays, arm.wins), (4, 2));
    }

    #[test]
    fn extremes_stay_numbers() {
        for mean in [-1e3, 0.0, 1e3] {
            for reward in [false, true] {
                for reach in [0.0, 0.5, 1e9] {
                    let found = minimise(&[mean, 1.0], &[1.0, 1e12], &[30.0, -2.0], reach, reward);
                    assert!(found.weights.iter().chain(&found.context).all(|x| x.is_finite()), "{mean} {reach}");
                }
            }
        }
        let nothing = minimise(&[0.3], &[2.0], &[0.0], 0.0, true);
        assert_eq!((nothing.weights, nothing.pull), (vec![0.3], 0.5));
        assert_eq!((sigmoid(-800.0), sigmoid(800.0), sigmoid(0.0)), (0.0, 1.0, 0.5));
    }

    #[test]
    fn draws_have_the_standard_deviation_of_the_variance() {
        let arm = Arm { mean: vec![2.0, -1.0], precision: vec![4.0, 0.25], plays: 0, wins: 0 };
        let mut stream = SplitMix64::new(5, "draws", &[]);
        let draws: Vec<Vec<f64>> = (0..20_000).map(|_| arm.draw(&mut stream)).collect();
        for (i, (mean, deviation)) in [(2.0, 0.5), (-1.0, 2.0)].into_iter().enumerate() {
            let average = draws.iter().map(|w| w[i]).sum::<f64>() / 20_000.0;
            let spread = (draws.iter().map(|w| (w[i] - average).powi(2)).sum::<f64>() / 20_000.0).sqrt();
            assert!((average - mean).abs() < 0.04 * deviation && (spread / deviation - 1.0).abs() < 0.03);
        }
        let (mean, deviation) = arm.logit(&[3.0, 1.0]);
        assert!((mean - 5.0).abs() < 1e-12 && (deviation - (9.0_f64 / 4.0 + 4.0).sqrt()).abs() < 1e-12);
    }
}
