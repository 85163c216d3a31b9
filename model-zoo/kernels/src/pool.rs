//! Max pooling and its gradient.

use rayon::prelude::*;

use crate::Stencil;
use crate::elements::with_simd;

/// Index of a window without a largest value.
const NOWHERE: u32 = u32::MAX;
/// Output values that a thread computes at a time.
const SHARE: usize = 1 << 14;

impl Stencil {
    /// Max pooling of the planes `x`: the largest value of each window, NaN if the window has one. Padding is minus infinity.
    pub fn max_pool(&self, x: &[f32], output: &mut [f32]) {
        let Some((from, to)) = self.planes() else { return };
        let planes = (SHARE / to).max(1);
        output.par_chunks_mut(to * planes).zip(x.par_chunks(from * planes)).for_each_init(
            || (vec![f32::NEG_INFINITY; self.padded()], vec![0.0; self.row()]),
            |(padded, best), (output, x)| {
                for (output, x) in output.chunks_exact_mut(to).zip(x.chunks_exact(from)) {
                    with_simd(
                        #[inline(always)]
                        || {
                            self.pad(x, padded);
                            best.fill(f32::NEG_INFINITY);
                            for position in 0..self.kernel * self.kernel {
                                for (best, value) in best.iter_mut().zip(&padded[self.shift(position)..]) {
                                    *best = if better(*value, *best) { *value } else { *best };
                                }
                            }
                            self.gather(best, output);
                        },
                    );
                }
            },
        );
    }

    /// Gradient of [`Stencil::max_pool`] with respect to the planes `x`, added to `back`. The gradient of an output goes to the
    /// first of the largest values of its window, or to the last NaN; nowhere if no value is above minus infinity.
    pub fn max_pool_gradient(&self, x: &[f32], gradient: &[f32], back: &mut [f32]) {
        let Some((from, to)) = self.planes() else { return };
        let jobs = back.par_chunks_mut(from).zip(x.par_chunks(from)).zip(gradient.par_chunks(to));
        jobs.for_each_init(
            || (vec![f32::NEG_INFINITY; self.padded()], vec![0.0; self.row()], vec![0; self.row()]),
            |(padded, best, positions), ((back, x), gradient)| {
                with_simd(
                    #[inline(always)]
                    || {
                        self.pad(x, padded);
                        best.fill(f32::NEG_INFINITY);
                        positions.fill(NOWHERE);
                        for position in 0..self.kernel * self.kernel {
                            let values = &padded[self.shift(position)..];
                            for ((best, at), value) in best.iter_mut().zip(positions.iter_mut()).zip(values) {
                                let better = better(*value, *best);
                                *best = if better { *value } else { *best };
                                *at = if better { position as u32 } else { *at };
                            }
                        }
                    },
                );
                for (y, gradient) in gradient.chunks_exact(self.output[1]).enumerate() {
                    let positions = &positions[y * self.width()..][..self.output[1]];
                    for (x, (position, gradient)) in
                        positions.iter().zip(gradient).enumerate().filter(|(_, (position, _))| **position != NOWHERE)
                    {
                        let position = *position as usize;
                        let row = y * self.stride + position / self.kernel - self.padding[0];
                        let column = x * self.stride + position % self.kernel - self.padding[1];
                        back[row * self.input[1] + column] += gradient;
                    }
                }
            },
        );
    }

    /// Sizes of an input plane and of an output plane; `None` if one is empty.
    fn planes(&self) -> Option<(usize, usize)> {
        let [from, to] = [self.input, self.output].map(|[rows, columns]| rows * columns);
        (from > 0 && to > 0).then_some((from, to))
    }
}

#[inline(always)]
fn better(value: f32, best: f32) -> bool {
    value > best || value.is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few distinct values, so that many are equal; with NaN and minus infinity if `special`.
    fn numbers(count: usize, special: bool) -> Vec<f32> {
        let number = |i: usize| match (i * 7919) % 101 {
            7 if special => f32::NAN,
            8..40 if special => f32::NEG_INFINITY,
            other => (other % 9) as f32 - 5.0,
        };
        (0..count).map(number).collect()
    }

    #[test]
    fn max_pool_and_its_gradient_are_the_definition() {
        for (input, kernel, stride, padding) in [
            ([6, 8], 2, 2, 0),
            ([7, 5], 2, 2, 0),
            ([9, 8], 3, 2, 1),
            ([4, 6], 3, 1, 1),
            ([5, 5], 3, 3, 0),
            ([1, 1], 3, 2, 1),
            ([2, 2], 1, 1, 0),
        ] {
            let output = input.map(|side: usize| (side + 2 * padding - kernel) / stride + 1);
            let stencil = Stencil { input, output, padding: [padding; 2], kernel, stride, input_dilation: 1 };
            for special in [false, true] {
                let x = numbers(3 * input[0] * input[1], special);
                let count = 3 * output[0] * output[1];
                let (mut y, mut back) = (vec![0.0; count], vec![0.0; x.len()]);
                let gradient: Vec<f32> = (0..count).map(|i| (1 << (i % 20)) as f32).collect();
                stencil.max_pool(&x, &mut y);
                stencil.max_pool_gradient(&x, &gradient, &mut back);
                let (mut expected, mut expected_back) = (Vec::new(), vec![0.0; x.len()]);
                for (i, gradient) in gradient.iter().enumerate() {
                    let [plane, row, column] = [i / output[1] / output[0], i / output[1] % output[0], i % output[1]];
                    let mut found: Option<usize> = None;
                    for position in 0..kernel * kernel {
                        let row = (row * stride + position / kernel).checked_sub(padding).filter(|row| *row < input[0]);
                        let column =
                            (column * stride + position % kernel).checked_sub(padding).filter(|at| *at < input[1]);
                        if let (Some(row), Some(column)) = (row, column) {
                            let at = (plane * input[0] + row) * input[1] + column;
                            let best = found.map_or(f32::NEG_INFINITY, |found| x[found]);
                            found = if better(x[at], best) { Some(at) } else { found };
                        }
                    }
                    expected.push(found.map_or(f32::NEG_INFINITY, |found| x[found]));
                    if let Some(found) = found {
                        expected_back[found] += gradient;
                    }
                }
                let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
                assert!(same(&y, &expected), "{stencil:?}: {y:?} for {expected:?}");
                assert_eq!(back, expected_back, "{stencil:?}");
            }
        }
    }
}
