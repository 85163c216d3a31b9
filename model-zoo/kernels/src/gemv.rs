//! Products of a few rows with a large matrix (gemv). Each value of the matrix is read once; a general matrix product would
//! copy the whole matrix first.

use rayon::prelude::*;

use crate::elements::with_simd;

/// Partial sums of a dot product: enough that no addition waits for the previous one. Their order depends neither on the
/// machine nor on the number of threads.
const LANES: usize = 64;
/// Rows of the matrix that a thread processes at a time.
const ROWS: usize = 32;
/// Columns of the matrix that a thread processes at a time: the partial results of one or two rows stay in the L1 cache.
const COLUMNS: usize = 1 << 11;

/// x `[R,I]` times the transposed `matrix` `[O,I]`: `[R,O]`.
pub fn times_transposed(x: &[f32], matrix: &[f32], inputs: usize) -> Vec<f32> {
    let inputs = inputs.max(1);
    let (rows, outputs) = (x.len() / inputs, matrix.len() / inputs);
    let mut transposed = vec![0.0; rows * outputs];
    let block = ROWS * rows.max(1);
    transposed.par_chunks_mut(block).zip(matrix.par_chunks(ROWS * inputs)).for_each(|(y, matrix)| {
        with_simd(
            #[inline(always)]
            || {
                for (y, weights) in y.chunks_exact_mut(rows).zip(matrix.chunks_exact(inputs)) {
                    // A loop, not a closure: code called from a closure would not be compiled for the widest instructions.
                    for (y, x) in y.iter_mut().zip(x.chunks_exact(inputs)) {
                        *y = dot(x, weights);
                    }
                }
            },
        )
    });
    (0..rows).flat_map(|row| transposed.iter().skip(row).step_by(rows).copied()).collect()
}

/// x `[R,O]` times `matrix` `[O,I]`: `[R,I]`.
pub fn times(x: &[f32], matrix: &[f32], inputs: usize) -> Vec<f32> {
    let inputs = inputs.max(1);
    let outputs = matrix.len() / inputs;
    let rows = x.len() / outputs.max(1);
    let blocks: Vec<Vec<f32>> = (0..inputs.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|block| {
            let columns = block * COLUMNS..inputs.min((block + 1) * COLUMNS);
            let mut y = vec![0.0; rows * columns.len()];
            with_simd(
                #[inline(always)]
                || {
                    for (output, weights) in matrix.chunks_exact(inputs).enumerate() {
                        let weights = &weights[columns.clone()];
                        for (row, y) in y.chunks_exact_mut(columns.len()).enumerate() {
                            let x = x[row * outputs + output];
                            y.iter_mut().zip(weights).for_each(|(y, w)| *y += x * w);
                        }
                    }
                },
            );
            y
        })
        .collect();
    let mut y = Vec::with_capacity(rows * inputs);
    for row in 0..rows {
        for block in &blocks {
            let width = block.len() / rows;
            y.extend_from_slice(&block[row * width..][..width]);
        }
    }
    y
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    /// Asserts that `found` is the sum over `terms` up to rounding; the sum is taken in f64.
    fn near(found: f32, terms: impl Iterator<Item = (f32, f32)>) {
        let (mut sum, mut size) = (0.0, 0.0);
        for (a, b) in terms {
            let product = f64::from(a) * f64::from(b);
            (sum, size) = (sum + product, size + product.abs());
        }
        assert!((f64::from(found) - sum).abs() <= 1e-6 * size, "{found} for {sum}");
    }

    #[test]
    fn both_products_are_the_definition() {
        for (rows, outputs, inputs) in [(1, 1, 1), (2, 5, 70), (3, 40, 64), (1, 33, 4099), (8, 100, 129)] {
            let matrix = numbers(outputs * inputs, 1);
            let (x, g) = (numbers(rows * inputs, 2), numbers(rows * outputs, 3));
            let (y, to_x) = (times_transposed(&x, &matrix, inputs), times(&g, &matrix, inputs));
            assert_eq!((y.len(), to_x.len()), (rows * outputs, rows * inputs));
            for row in 0..rows {
                for o in 0..outputs {
                    let terms = (0..inputs).map(|i| (x[row * inputs + i], matrix[o * inputs + i]));
                    near(y[row * outputs + o], terms);
                }
                for i in 0..inputs {
                    let terms = (0..outputs).map(|o| (g[row * outputs + o], matrix[o * inputs + i]));
                    near(to_x[row * inputs + i], terms);
                }
            }
        }
    }

    #[test]
    fn a_row_s_result_depends_neither_on_threads_nor_on_other_rows() {
        let (outputs, inputs) = (100, 5000);
        let matrix = numbers(outputs * inputs, 1);
        let (x, g) = (numbers(3 * inputs, 2), numbers(3 * outputs, 3));
        let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let run = |x: &[f32], g: &[f32]| (times_transposed(x, &matrix, inputs), times(g, &matrix, inputs));
        let (y, to_x) = pool(1).install(|| run(&x, &g));
        assert!(pool(3).install(|| run(&x, &g)) == (y.clone(), to_x.clone()));
        let last = pool(2).install(|| run(&x[2 * inputs..], &g[2 * outputs..]));
        assert!(last == (y[2 * outputs..].to_vec(), to_x[2 * inputs..].to_vec()));
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(times_transposed(&[], &[1.0, 2.0], 2).is_empty());
        assert!(times(&[], &[1.0, 2.0], 2).is_empty());
        assert!(times(&[], &[], 0).is_empty());
    }
}
