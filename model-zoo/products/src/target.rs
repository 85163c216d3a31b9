//! Where a product goes: the only place that hands pointers to gemm.

#![allow(unsafe_code, reason = "gemm takes pointers")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use gemm::Parallelism;

use crate::view::Matrix;

/// Columns of a matrix that lies row by row in memory that nothing else reads or writes in the meantime.
#[derive(Debug)]
pub struct Target<'a> {
    at: *mut f32,
    rows: usize,
    columns: usize,
    /// From one row to the next.
    step: usize,
    /// Whether the product is added to the values that are there. They are, then.
    added: bool,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a target is a part of a mutable slice of numbers, which may be sent.
unsafe impl Send for Target<'_> {}

impl<'a> Target<'a> {
    /// `y` as a matrix to which the product is added.
    pub fn added(y: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::new(y.as_mut_ptr(), y.len(), rows, columns, true)
    }

    /// `y` as a matrix without values.
    pub fn unwritten(y: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize) -> Self {
        Self::new(y.as_mut_ptr().cast(), y.len(), rows, columns, false)
    }

    fn new(at: *mut f32, length: usize, rows: usize, columns: usize, added: bool) -> Self {
        assert_eq!(Some(length), rows.checked_mul(columns), "values of a product of {rows} by {columns}");
        Self { at, rows, columns, step: columns, added, memory: PhantomData }
    }

    /// Its columns, `width` at a time.
    pub fn split(self, width: usize) -> Vec<(Range<usize>, Self)> {
        let width = width.max(1);
        let part = |block: usize| {
            let range = block * width..self.columns.min((block + 1) * width);
            // Inside the first row, where there is one. No two parts share a column, and the whole is gone when the parts are.
            let at = self.at.wrapping_add(range.start);
            (range.clone(), Self { at, columns: range.len(), ..self })
        };
        (0..self.columns.div_ceil(width)).map(part).collect()
    }

    /// Writes `a` times `b`: how many values that were.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn write(self, a: Matrix<'_>, b: Matrix<'_>, parallelism: Parallelism) -> usize {
        let inner = a.columns();
        assert_eq!(
            [a.rows(), inner, b.columns()],
            [self.rows, b.rows(), self.columns],
            "rows, what is summed over, and columns of a product"
        );
        let ([a_row, a_column], [b_row, b_column]) = (a.steps(), b.steps());
        // SAFETY: `a` and `b` have as many values as their sizes and steps ask for (`Matrix`), this target has its rows and
        // columns to itself, with values where they are read, and the sizes are those of a product.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                inner,
                self.at,
                1,
                self.step as isize,
                self.added,
                a.values().as_ptr(),
                a_column,
                a_row,
                b.values().as_ptr(),
                b_column,
                b_row,
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
        self.rows * self.columns
    }
}

/// A vector of `count` matrices `[rows, columns]`, which `write` has to write, all of them; it says how many values it wrote.
///
/// # Panics
/// If they are fewer than there are.
pub fn filled(count: usize, rows: usize, columns: usize, write: impl FnOnce(Vec<Target<'_>>) -> usize) -> Vec<f32> {
    // No memory has room for as many as saturate.
    let each = rows.saturating_mul(columns);
    let length = count.saturating_mul(each);
    let mut values = Vec::<f32>::with_capacity(length);
    let room = &mut values.spare_capacity_mut()[..length];
    let written = write(room.chunks_mut(each.max(1)).map(|y| Target::unwritten(y, rows, columns)).collect());
    assert_eq!(written, length, "values written of {count} products of {rows} by {columns}");
    // SAFETY: there is room for as many. No two targets share a value and each is written once at most, so that as many written
    // values are all of them.
    unsafe { values.set_len(length) };
    values
}
