//! MatrixView products of f32 on a CPU, written where they are wanted.
//!
//! Burn's CPU backend multiplies with gemm, too, but clears its result before and copies it afterwards, both on one thread: for
//! a layer with few inputs that takes as long as the product. It cannot add to what is there either, nor write into a part of a
//! plane. Here gemm gets slices whose lengths are checked.
//!
//! What threads share, and whether they do, changes no bit of a product.

mod target;
mod view;

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use target::{Target, filled};
pub use view::MatrixView;

/// Multiplications from which on one product runs on several threads.
const SHARED: usize = 192 * 192 * 192;
/// Multiplications from which on the products of a batch run on several threads.
const SHARED_BATCH: usize = 128 * 128 * 128;
/// Products from which on each runs on one thread of its own.
const MANY: usize = 4;

/// `a` `[M,K]` times `b` `[K,N]`: `[M,N]`, row-major.
///
/// # Panics
/// Unless `a` has as many columns as `b` has rows.
pub fn product(a: MatrixView<'_>, b: MatrixView<'_>) -> Vec<f32> {
    products(1, [a.rows(), b.columns()], |_| (a, b))
}

/// The products of `count` pairs of matrices: `[count,M,N]`.
///
/// # Panics
/// If the sizes of a pair do not fit.
pub fn products<'a>(
    count: usize,
    [rows, columns]: [usize; 2],
    pair: impl Fn(usize) -> (MatrixView<'a>, MatrixView<'a>) + Sync,
) -> Vec<f32> {
    filled(count, rows, columns, |targets| {
        let each = if count == 0 { 0 } else { rows * columns * pair(0).0.columns() };
        let write = |(i, target): (usize, Target<'_>), parallelism| {
            let (a, b) = pair(i);
            target.write(a, b, parallelism)
        };
        if count >= MANY && count * each >= SHARED_BATCH {
            targets.into_par_iter().enumerate().map(|target| write(target, Parallelism::None)).sum()
        } else {
            targets.into_iter().enumerate().map(|target| write(target, parallelism(each))).sum()
        }
    })
}

/// Adds `a` `[M,K]` times `b` `[K,N]` to `y` `[M,N]`, row-major.
///
/// # Panics
/// If the sizes do not fit.
pub fn add_product(a: MatrixView<'_>, b: MatrixView<'_>, y: &mut [f32]) {
    let [rows, columns] = [a.rows(), b.columns()];
    Target::accumulate(y, rows, columns).write(a, b, parallelism(rows * columns * a.columns()));
}

/// `a` `[M,K]` times `count` matrices `[K,N]`, N = `columns`, of which `width` columns exist at a time: `block(i, range)` returns
/// the columns `range` of matrix `i`, row-major. The result is `[count,M,N]`; each thread holds one block at a time.
///
/// # Panics
/// If a block has another size.
pub fn products_by_columns(
    count: usize,
    a: MatrixView<'_>,
    columns: usize,
    width: usize,
    block: impl Fn(usize, Range<usize>) -> Vec<f32> + Sync,
) -> Vec<f32> {
    filled(count, a.rows(), columns, |targets| {
        let mut parts = Vec::new();
        for (i, target) in targets.into_iter().enumerate() {
            parts.extend(target.split(width).into_iter().map(|(range, target)| (i, range, target)));
        }
        let write = |(i, range, target): (usize, Range<usize>, Target<'_>), parallelism| {
            let made = block(i, range.clone());
            target.write(a, MatrixView::new(&made, [a.columns(), range.len()]), parallelism)
        };
        if parts.len() >= rayon::current_num_threads().max(2) {
            parts.into_par_iter().map(|part| write(part, Parallelism::None)).sum()
        } else {
            let parallelism = parallelism(a.rows() * a.columns() * width.min(columns));
            parts.into_iter().map(|part| write(part, parallelism)).sum()
        }
    })
}

/// The parallelism of a product with this number of multiplications.
fn parallelism(multiplications: usize) -> Parallelism {
    if multiplications >= SHARED { Parallelism::Rayon(0) } else { Parallelism::None }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    /// The definition, in f64.
    fn expected(a: &[f32], b: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
        let cell = |i: usize| {
            let terms =
                (0..inner).map(|k| f64::from(a[i / columns * inner + k]) * f64::from(b[k * columns + i % columns]));
            terms.sum()
        };
        (0..rows * columns).map(cell).collect()
    }

    fn near(found: &[f32], expected: &[f64], inner: usize) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * inner as f64, "{found} for {expected}");
        }
    }

    fn transpose(x: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
        (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
    }

    /// Sizes that reach each of gemm's code paths: one row, one column, few terms, a small result, several blocks.
    const SIZES: [[usize; 3]; 10] = [
        [1, 1, 1],
        [3, 5, 7],
        [1, 40, 70],
        [70, 40, 1],
        [64, 33, 2],
        [17, 1, 100],
        [65, 300, 257],
        [40, 2500, 30],
        [200, 192, 210],
        [4, 0, 3],
    ];

    #[test]
    #[should_panic(expected = "values written of 2 products of 3 by 4")]
    fn a_result_that_was_not_written_is_refused() {
        let (a, b) = (numbers(15, 1), numbers(20, 2));
        let (a, b) = (MatrixView::new(&a, [3, 5]), MatrixView::new(&b, [5, 4]));
        filled(2, 3, 4, |targets| {
            targets.into_iter().skip(1).map(|target| target.write(a, b, Parallelism::None)).sum()
        });
    }

    #[test]
    fn uninitialised_memory_is_never_read() {
        for size in SIZES {
            let [rows, inner, columns] = size;
            let (a, b) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let (across_a, across_b) = (transpose(&a, [rows, inner]), transpose(&b, [inner, columns]));
            for a in [MatrixView::new(&a, [rows, inner]), MatrixView::new(&across_a, [inner, rows]).transposed()] {
                for b in
                    [MatrixView::new(&b, [inner, columns]), MatrixView::new(&across_b, [columns, inner]).transposed()]
                {
                    let mut y = vec![MaybeUninit::new(f32::NAN); rows * columns];
                    Target::uninit(&mut y, rows, columns).write(a, b, Parallelism::Rayon(0));
                    #[allow(unsafe_code, reason = "the values are NaN where they are not written")]
                    // SAFETY: all of them were initialised.
                    let written = y.iter().all(|value| unsafe { value.assume_init() }.is_finite());
                    assert!(written, "{size:?}");
                }
            }
        }
    }

    #[test]
    fn all_products_are_the_definition() {
        for size in SIZES {
            let [rows, inner, columns] = size;
            let (a, b) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let wanted = expected(&a, &b, size);
            let (across_a, across_b) = (transpose(&a, [rows, inner]), transpose(&b, [inner, columns]));
            for a in [MatrixView::new(&a, [rows, inner]), MatrixView::new(&across_a, [inner, rows]).transposed()] {
                for b in
                    [MatrixView::new(&b, [inner, columns]), MatrixView::new(&across_b, [columns, inner]).transposed()]
                {
                    near(&product(a, b), &wanted, inner);
                    let mut sum = vec![2.0; rows * columns];
                    add_product(a, b, &mut sum);
                    near(&sum, &wanted.iter().map(|value| value + 2.0).collect::<Vec<_>>(), inner + 2);
                }
            }
            let block = |_: usize, range: Range<usize>| {
                b.chunks(columns).flat_map(|row| row[range.clone()].iter().copied()).collect::<Vec<_>>()
            };
            for (count, width) in [(0, 1), (1, 0), (2, 1), (1, 3), (3, columns), (2, columns + 5)] {
                let found = products_by_columns(count, MatrixView::new(&a, [rows, inner]), columns, width, block);
                assert_eq!(found.len(), count * rows * columns);
                found.chunks(rows * columns).for_each(|y| near(y, &wanted, inner));
            }
        }
    }

    #[test]
    fn a_batch_is_each_of_its_products() {
        for count in [0, 1, 2, 5] {
            for size in SIZES {
                let [rows, inner, columns] = size;
                let (a, b) = (numbers(rows * inner, 1), numbers(count * inner * columns, 2));
                let a = MatrixView::new(&a, [rows, inner]);
                let one =
                    |i: usize| (a, MatrixView::new(&b[i * inner * columns..][..inner * columns], [inner, columns]));
                let found = products(count, [rows, columns], one);
                let alone: Vec<f32> = (0..count).flat_map(|i| product(one(i).0, one(i).1)).collect();
                assert_eq!(found, alone, "{count} of {size:?}");
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let size @ [rows, inner, columns] = [200, 500, 900];
        let (a, b) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
        let run = |threads: usize| {
            pool(threads).install(|| {
                let (a, b) = (MatrixView::new(&a, [rows, inner]), MatrixView::new(&b, [inner, columns]));
                let mut y = product(a, b);
                add_product(a, b, &mut y);
                y
            })
        };
        let alone = run(1);
        near(&alone, &expected(&a, &b, size).iter().map(|value| 2.0 * value).collect::<Vec<_>>(), 2 * inner);
        assert!(run(2) == alone && run(3) == alone);
    }

    #[test]
    #[should_panic(expected = "rows, inner size and columns of a product")]
    fn sizes_that_do_not_fit_are_refused() {
        product(MatrixView::new(&[1.0; 6], [2, 3]), MatrixView::new(&[1.0; 4], [2, 2]));
    }
}
