//! Element-wise kernels and row reductions in f32: GELU, softmax, layer normalisation, bias and ReLU.
//!
//! The compiler vectorises them; they run with the widest SIMD instructions of the machine. Reductions use `LANES` partial
//! sums, so that the order of additions depends neither on the machine nor on the number of threads.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Partial sums of a reduction: one AVX-512 register.
const LANES: usize = 16;
/// Values that a thread processes at a time: about half of an L2 cache, including what is written.
const BLOCK: usize = 1 << 15;

/// GELU in place: x P(X <= x) for a standard normal X.
///
/// P by the rational approximation 7.1.26 of Abramowitz and Stegun (1964); the error is below 4e-7 max(1, |x|).
pub fn gelu(x: &mut [f32]) {
    x.par_chunks_mut(BLOCK).for_each(|x| {
        with_simd(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = gelu_and_slope(*x).0),
        )
    });
}

/// [`gelu`], and its derivative at every x in `slope`, which has the length of x.
pub fn gelu_with_slope(x: &mut [f32], slope: &mut [f32]) {
    x.par_chunks_mut(BLOCK).zip(slope.par_chunks_mut(BLOCK)).for_each(|(x, slope)| {
        with_simd(
            #[inline(always)]
            || x.iter_mut().zip(&mut *slope).for_each(|(x, slope)| (*x, *slope) = gelu_and_slope(*x)),
        )
    });
}

/// softmax(scale x) of each row of length `row`, in place.
pub fn softmax(x: &mut [f32], row: usize, scale: f32) {
    if row == 0 {
        return;
    }
    x.par_chunks_mut(row * rows(row)).for_each(|x| {
        with_simd(
            #[inline(always)]
            || {
                for x in x.chunks_exact_mut(row) {
                    softmax_row(x, scale);
                }
            },
        )
    });
}

/// Gradient of [`softmax`], in place: `gradient` holds the gradient with respect to the output `softmax` and receives the
/// gradient with respect to x.
pub fn softmax_gradient(softmax: &[f32], gradient: &mut [f32], row: usize, scale: f32) {
    if row == 0 {
        return;
    }
    let block = row * rows(row);
    gradient.par_chunks_mut(block).zip(softmax.par_chunks(block)).for_each(|(gradient, softmax)| {
        with_simd(
            #[inline(always)]
            || {
                for (gradient, softmax) in gradient.chunks_exact_mut(row).zip(softmax.chunks_exact(row)) {
                    let mean = sum(gradient, softmax, |g, p| g * p);
                    gradient.iter_mut().zip(softmax).for_each(|(g, p)| *g = p * (*g - mean) * scale);
                }
            },
        )
    });
}

/// Gradient of layer normalisation `gamma (x - mean) / sqrt(variance + epsilon) + beta`, in place: `gradient` holds the
/// gradient with respect to the output and receives the gradient with respect to x. Rows have the length of `gamma`.
pub fn layer_norm_gradient(x: &[f32], gamma: &[f32], epsilon: f32, gradient: &mut [f32]) {
    let row = gamma.len();
    if row == 0 {
        return;
    }
    let block = row * rows(row);
    gradient.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(gradient, x)| {
        with_simd(
            #[inline(always)]
            || {
                for (gradient, x) in gradient.chunks_exact_mut(row).zip(x.chunks_exact(row)) {
                    layer_norm_gradient_row(x, gamma, epsilon, gradient);
                }
            },
        )
    });
}

/// Bias and ReLU in place: min(max(x + bias, 0), limit), for planes of `plane` values whose channels cycle through `bias`. NaN
/// stays NaN.
pub fn bias_relu(x: &mut [f32], bias: &[f32], plane: usize, limit: f32) {
    if plane == 0 || bias.is_empty() {
        return;
    }
    let planes = rows(plane);
    x.par_chunks_mut(plane * planes).enumerate().for_each(|(block, x)| {
        with_simd(
            #[inline(always)]
            || {
                for (i, x) in x.chunks_exact_mut(plane).enumerate() {
                    let bias = bias[(block * planes + i) % bias.len()];
                    x.iter_mut().for_each(|x| *x = (*x + bias).clamp(0.0, limit));
                }
            },
        )
    });
}

/// Gradient of [`bias_relu`] with respect to x, in place: zero where its output y is not inside (0, limit). A NaN output
/// keeps its gradient.
pub fn relu_gradient(y: &[f32], gradient: &mut [f32], limit: f32) {
    gradient.par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).for_each(|(gradient, y)| {
        with_simd(
            #[inline(always)]
            || gradient.iter_mut().zip(y).for_each(|(g, y)| *g = if *y <= 0.0 || *y >= limit { 0.0 } else { *g }),
        )
    });
}

/// x + bias in place, for planes of `plane` values whose channels cycle through `bias`.
pub fn bias_add(x: &mut [f32], bias: &[f32], plane: usize) {
    if plane == 0 || bias.is_empty() {
        return;
    }
    let channels = bias.len();
    let planes = rows(plane).next_multiple_of(channels);
    x.par_chunks_mut(plane * planes).for_each(|x| {
        with_simd(
            #[inline(always)]
            || {
                for x in x.chunks_exact_mut(plane * channels) {
                    if plane == 1 {
                        x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
                        continue;
                    }
                    for (x, bias) in x.chunks_exact_mut(plane).zip(bias) {
                        x.iter_mut().for_each(|x| *x += bias);
                    }
                }
            },
        )
    });
}

/// Runs `kernel`, a closure marked `#[inline(always)]`, with the widest SIMD instructions of the machine.
pub fn with_simd(kernel: impl FnMut()) {
    /// Calls the closure's body: the shim that makes an `FnOnce` of it would not be inlined, and so not vectorised.
    struct Body<F>(F);

    impl<F: FnMut()> NullaryFnOnce for Body<F> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            (self.0)()
        }
    }

    Arch::new().dispatch(Body(kernel))
}

/// Rows of length `row` in a block.
fn rows(row: usize) -> usize {
    (BLOCK / row.max(1)).max(1)
}

#[inline(always)]
fn softmax_row(x: &mut [f32], scale: f32) {
    let largest = largest(x);
    x.iter_mut().for_each(|x| *x = exp((*x - largest) * scale));
    let inverse = 1.0 / sum(x, x, |x, _| x);
    x.iter_mut().for_each(|x| *x *= inverse);
}

#[inline(always)]
fn layer_norm_gradient_row(x: &[f32], gamma: &[f32], epsilon: f32, gradient: &mut [f32]) {
    let count = x.len() as f32;
    let mean = sum(x, x, |x, _| x) / count;
    let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / count;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    gradient.iter_mut().zip(gamma).for_each(|(g, gamma)| *g *= gamma);
    let shift = sum(gradient, gradient, |g, _| g) / count;
    let slope = sum(gradient, x, |g, x| g * (x - mean)) * inverse * inverse / count;
    gradient.iter_mut().zip(x).for_each(|(g, x)| *g = inverse * (*g - shift - (x - mean) * slope));
}

/// The sum of `term` over two rows of one length.
#[inline(always)]
pub(crate) fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The largest value of a row; NaN if the row has one.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a >= b || a.is_nan() { a } else { b };
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| larger(a, *b))
}

/// gelu(x) and its derivative, from one exponential.
#[inline(always)]
fn gelu_and_slope(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const DENSITY: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + P * x.abs());
    let series = 1.421_413_8 + t * (-1.453_152 + t * 1.061_405_4);
    let tail = 0.5 * t * (0.254_829_6 + t * (-0.284_496_74 + t * series)) * bell;
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (x * cdf, cdf + x * DENSITY * bell)
}

/// e^x within 2 units in the last place for x in [-87, 88], and that range's ends beyond it; NaN for NaN.
///
/// x is n ln 2 + r with |r| < 0.35; e^r by Cephes' polynomial, 2^n by the exponent's bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few bits that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let low = 4.166_579_6e-2 + r * (8.333_452e-3 + r * (1.398_199_9e-3 + r * 1.987_569_1e-4));
    let series = 0.5 + r * (1.666_666_5e-1 + r * low);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    (1.0 + (r + r * r * series)) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` values from `from` to `to`.
    fn range(from: f32, to: f32, count: usize) -> Vec<f32> {
        (0..count).map(|i| from + (to - from) * i as f32 / (count - 1) as f32).collect()
    }

    #[test]
    fn exp_is_the_library_s() {
        for x in range(-87.0, 88.0, 100_001) {
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2.5e-7, "exp({x}) = {} for {expected}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1000.0) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_and_its_slope_follow_the_normal_distribution() {
        // The density integrated in f64 by Simpson's rule, independent of the formula under test.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let cdf = |x: f64| {
            let (from, steps) = (-12.0, 4000);
            let width = (x - from) / f64::from(steps);
            let inner = |i: i32| density(from + f64::from(i) * width) * if i % 2 == 0 { 2.0 } else { 4.0 };
            (density(from) + density(x) + (1..steps).map(inner).sum::<f64>()) * width / 3.0
        };
        let x = range(-9.0, 9.0, 501);
        let (mut value, mut slope) = (x.clone(), vec![0.0; x.len()]);
        gelu_with_slope(&mut value, &mut slope);
        let mut alone = x.clone();
        gelu(&mut alone);
        assert_eq!(alone, value);
        for ((x, value), slope) in x.iter().zip(value).zip(slope) {
            let x = f64::from(*x);
            assert!((f64::from(value) - x * cdf(x)).abs() < 4e-7 * x.abs().max(1.0), "gelu({x}) = {value}");
            assert!((f64::from(slope) - cdf(x) - x * density(x)).abs() < 4e-7, "slope at {x}: {slope}");
        }
    }

    #[test]
    fn softmax_and_its_gradient_are_the_definition() {
        let (row, scale) = (37, 0.7f32);
        let x = range(-4.0, 9.0, 3 * row);
        let mut p = x.clone();
        softmax(&mut p, row, scale);
        let upstream: Vec<f32> = (0..x.len()).map(|i| ((i * 7919) % 23) as f32 / 11.0 - 1.0).collect();
        let mut gradient = upstream.clone();
        softmax_gradient(&p, &mut gradient, row, scale);
        for line in 0..3 {
            let part = |values: &[f32]| -> Vec<f64> {
                values[line * row..(line + 1) * row].iter().map(|v| f64::from(*v)).collect()
            };
            let (x, upstream, scale) = (part(&x), part(&upstream), f64::from(scale));
            let loss = |x: &[f64]| {
                let total: f64 = x.iter().map(|x| (scale * x).exp()).sum();
                x.iter().zip(&upstream).map(|(x, g)| (scale * x).exp() / total * g).sum::<f64>()
            };
            let total: f64 = x.iter().map(|x| (scale * x).exp()).sum();
            for i in 0..row {
                assert!((part(&p)[i] - (scale * x[i]).exp() / total).abs() < 1e-6);
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    loss(&x)
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((part(&gradient)[i] - slope).abs() < 1e-6, "{} for {slope}", part(&gradient)[i]);
            }
        }
    }

    #[test]
    fn bias_relu_and_its_gradient_are_the_definition() {
        let mut x = vec![-2.0, -1.0, 0.5, 7.0, -2.0, -1.0, 0.5, f32::NAN];
        bias_relu(&mut x, &[1.0, 2.0], 2, 6.0);
        assert_eq!(x[..7], [0.0, 0.0, 2.5, 6.0, 0.0, 0.0, 2.5]);
        assert!(x[7].is_nan());
        let mut gradient = vec![3.0; 8];
        relu_gradient(&x, &mut gradient, 6.0);
        // At 0 and at the limit the gradient is zero, as in PyTorch's relu6.
        assert_eq!(gradient, [0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0, 3.0]);
        let mut open = vec![5.0, 0.0, 1e30];
        bias_relu(&mut open, &[0.0], 3, f32::INFINITY);
        assert_eq!(open, [5.0, 0.0, 1e30]);
    }

    #[test]
    fn empty_rows_are_no_rows() {
        softmax(&mut [], 0, 1.0);
        softmax_gradient(&[], &mut [], 0, 1.0);
        layer_norm_gradient(&[], &[], 1e-6, &mut []);
        bias_relu(&mut [], &[], 0, 6.0);
        bias_add(&mut [], &[], 0);
    }

    #[test]
    fn nan_stays_in_its_row() {
        let mut x = range(-1.0, 1.0, 64);
        x[35] = f32::NAN;
        softmax(&mut x, 32, 1.0);
        assert!(x[..32].iter().all(|x| x.is_finite()) && x[32..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn layer_norm_gradient_is_that_of_finite_differences() {
        let row = 21;
        let x: Vec<f32> = (0..2 * row).map(|i| ((i * 104_729) % 97) as f32 / 20.0).collect();
        let gamma = range(0.5, 2.0, row);
        let upstream: Vec<f32> = (0..x.len()).map(|i| ((i * 7919) % 23) as f32 / 11.0 - 1.0).collect();
        let mut gradient = upstream.clone();
        layer_norm_gradient(&x, &gamma, 1e-5, &mut gradient);
        for i in 0..x.len() {
            let line = i / row * row..(i / row + 1) * row;
            let loss = |by: f64| {
                let mut values: Vec<f64> = x[line.clone()].iter().map(|x| f64::from(*x)).collect();
                values[i - line.start] += by;
                let mean = values.iter().sum::<f64>() / row as f64;
                let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row as f64;
                let terms = values.iter().zip(&gamma).zip(&upstream[line.clone()]);
                terms
                    .map(|((x, w), g)| (x - mean) / (variance + 1e-5).sqrt() * f64::from(*w) * f64::from(*g))
                    .sum::<f64>()
            };
            let slope: f64 = (loss(1e-4) - loss(-1e-4)) / 2e-4;
            assert!((f64::from(gradient[i]) - slope).abs() < 1e-5, "{} for {slope}", gradient[i]);
        }
    }
}
