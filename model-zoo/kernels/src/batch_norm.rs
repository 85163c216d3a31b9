//! Batch normalisation in training (Ioffe and Szegedy, 2015): statistics, output and gradients.
//!
//! Values are `[B,C,N]`: images, channels, positions of a plane.

use rayon::prelude::*;

use crate::elements::{sum, with_simd};

/// Mean and variance of each channel of a batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// `[C]`
    pub mean: Vec<f32>,
    /// Biased variance `[C]`.
    pub variance: Vec<f32>,
    /// 1 / sqrt(variance + epsilon) `[C]`.
    scale: Vec<f32>,
    /// Positions of a plane, at least one.
    cells: usize,
}

impl BatchStatistics {
    /// The statistics of x `[B,C,N]` with C = `count` and N = `cells`; `epsilon` is added to the variance under the root.
    pub fn new(x: &[f32], count: usize, cells: usize, epsilon: f64) -> Self {
        let cells = cells.max(1);
        let moments = |channel: usize| {
            let mean = mean_over(x, x, channel, count, cells, |x, _| x) as f32;
            let variance = mean_over(x, x, channel, count, cells, |x, _| (x - mean) * (x - mean));
            (mean, (variance as f32, (variance + epsilon).sqrt().recip() as f32))
        };
        let (mean, (variance, scale)) = (0..count).into_par_iter().map(moments).unzip();
        Self { mean, variance, scale, cells }
    }

    /// (x - mean) * scale * gamma + beta, with gamma and beta `[C]`.
    pub fn normalise(&self, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        self.each(
            &mut y,
            x,
            #[inline(always)]
            |channel, y, x| {
                let (mean, scale, shift) = (self.mean[channel], self.scale[channel] * gamma[channel], beta[channel]);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * scale + shift;
                }
            },
        );
        y
    }

    /// The gradients with respect to x, gamma and beta, given that of the output, g. With x^ the normalised x and means over
    /// the channel, dx = gamma scale (g - mean(g) - x^ mean(g x^)).
    pub fn gradients(&self, x: &[f32], gamma: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let count = self.mean.len();
        let values = (x.len() / count.max(1)) as f64;
        let means = |channel: usize| {
            let (mean, scale) = (self.mean[channel], self.scale[channel]);
            let to_beta = mean_over(gradient, x, channel, count, self.cells, |g, _| g);
            let to_gamma = mean_over(gradient, x, channel, count, self.cells, |g, x| g * ((x - mean) * scale));
            (to_gamma, to_beta)
        };
        let (to_gamma, to_beta): (Vec<_>, Vec<_>) = (0..count).into_par_iter().map(means).unzip();
        let mut back = gradient.to_vec();
        self.each(
            &mut back,
            x,
            #[inline(always)]
            |channel, back, x| {
                let (mean, scale) = (self.mean[channel], self.scale[channel]);
                let [mean_product, mean_gradient] = [to_gamma[channel], to_beta[channel]].map(|mean| mean as f32);
                let outer = gamma[channel] * scale;
                for (back, x) in back.iter_mut().zip(x) {
                    *back = outer * (*back - mean_gradient - (x - mean) * scale * mean_product);
                }
            },
        );
        let sums = |means: Vec<f64>| means.into_iter().map(|mean| (mean * values) as f32).collect();
        [back, sums(to_gamma), sums(to_beta)]
    }

    /// Runs `function` on the channel, the target and the source of each plane.
    fn each(&self, target: &mut [f32], source: &[f32], function: impl Fn(usize, &mut [f32], &[f32]) + Sync) {
        let planes = target.par_chunks_mut(self.cells).zip(source.par_chunks(self.cells));
        planes.with_min_len(PLANES).enumerate().for_each(|(plane, (target, source))| {
            let channel = plane % self.mean.len();
            with_simd(
                #[inline(always)]
                || function(channel, target, source),
            );
        });
    }
}

/// Smallest number of planes that a thread processes at a time.
const PLANES: usize = 16;

/// The mean of `term` over the values of a channel in two batches of the same shape, summed plane by plane in f64.
fn mean_over(
    a: &[f32],
    b: &[f32],
    channel: usize,
    count: usize,
    cells: usize,
    term: impl Fn(f32, f32) -> f32 + Copy,
) -> f64 {
    let planes = || a.chunks_exact(cells).zip(b.chunks_exact(cells)).skip(channel).step_by(count);
    let mut total = 0.0;
    with_simd(
        #[inline(always)]
        || {
            for (a, b) in planes() {
                total += f64::from(sum(a, b, term));
            }
        },
    );
    total / (planes().len() * cells).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    fn near(found: &[f32], expected: impl Iterator<Item = f64>) {
        let expected: Vec<f64> = expected.collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} for {expected}");
        }
    }

    #[test]
    fn values_and_gradients_are_the_definition() {
        for [images, count, cells] in [[1, 1, 2], [3, 5, 49], [2, 40, 7], [4, 3, 130]] {
            let (x, g) = (numbers(images * count * cells, 1), numbers(images * count * cells, 2));
            let (gamma, beta) = (numbers(count, 3), numbers(count, 4));
            let statistics = BatchStatistics::new(&x, count, cells, 1e-5);
            let y = statistics.normalise(&x, &gamma, &beta);
            let [to_x, to_gamma, to_beta] = statistics.gradients(&x, &gamma, &g);
            for channel in 0..count {
                let of = |values: &[f32]| -> Vec<f64> {
                    let planes = values.chunks(cells).skip(channel).step_by(count);
                    planes.flatten().map(|value| f64::from(*value)).collect()
                };
                let (own, own_g, own_gamma) = (of(&x), of(&g), f64::from(gamma[channel]));
                let mean_of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                let mean = mean_of(&own);
                let variance = mean_of(&own.iter().map(|x| (x - mean).powi(2)).collect::<Vec<_>>());
                near(&statistics.mean[channel..=channel], [mean].into_iter());
                near(&statistics.variance[channel..=channel], [variance].into_iter());
                let scale = (variance + 1e-5).sqrt().recip();
                let normalised: Vec<f64> = own.iter().map(|x| (x - mean) * scale).collect();
                let shifted = |x: &f64| x * own_gamma + f64::from(beta[channel]);
                let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
                near(&single(of(&y)), normalised.iter().map(shifted));
                let products: Vec<f64> = own_g.iter().zip(&normalised).map(|(g, x)| g * x).collect();
                let (mean_g, mean_product) = (mean_of(&own_g), mean_of(&products));
                let back = |(g, x): (&f64, &f64)| own_gamma * scale * (g - mean_g - x * mean_product);
                near(&single(of(&to_x)), own_g.iter().zip(&normalised).map(back));
                near(&to_gamma[channel..=channel], [products.iter().sum()].into_iter());
                near(&to_beta[channel..=channel], [own_g.iter().sum()].into_iter());
            }
        }
    }

    #[test]
    fn an_empty_batch_is_allowed() {
        let statistics = BatchStatistics::new(&[], 2, 3, 1e-5);
        assert!(statistics.normalise(&[], &[1.0; 2], &[0.0; 2]).is_empty());
        assert_eq!(statistics.gradients(&[], &[1.0; 2], &[]), [vec![], vec![0.0; 2], vec![0.0; 2]]);
    }
}
