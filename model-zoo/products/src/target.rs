//! The destination of a product: the only place that passes pointers to gemm.

#![allow(unsafe_code, reason = "gemm takes pointers")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use gemm::Parallelism;

use crate::view::MatrixView;

/// Columns of a row-major matrix, with exclusive access to their memory.
#[derive(Debug)]
pub struct Target<'a> {
    at: *mut f32,
    rows: usize,
    columns: usize,
    /// From one row to the next.
    stride: usize,
    /// Whether the memory is initialised, and the product is added to it.
    accumulate: bool,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a target is a part of a mutable slice of numbers, which is `Send`.
unsafe impl Send for Target<'_> {}

impl<'a> Target<'a> {
    /// `y` as a matrix to which the product is added.
    pub fn accumulate(y: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::new(y.as_mut_ptr(), y.len(), rows, columns, true)
    }

    /// `y` as an uninitialised matrix.
    pub fn uninit(y: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize) -> Self {
        Self::new(y.as_mut_ptr().cast(), y.len(), rows, columns, false)
    }

    fn new(at: *mut f32, length: usize, rows: usize, columns: usize, accumulate: bool) -> Self {
        assert_eq!(Some(length), rows.checked_mul(columns), "values of a product of {rows} by {columns}");
        Self { at, rows, columns, stride: columns, accumulate, memory: PhantomData }
    }

    /// Its columns, `width` at a time.
    pub fn split(self, width: usize) -> Vec<(Range<usize>, Self)> {
        let width = width.max(1);
        let part = |block: usize| {
            let range = block * width..self.columns.min((block + 1) * width);
            // The offset is inside the first row. No two parts share a column, and splitting consumes the whole.
            let at = self.at.wrapping_add(range.start);
            (range.clone(), Self { at, columns: range.len(), ..self })
        };
        (0..self.columns.div_ceil(width)).map(part).collect()
    }

    /// Writes `a` times `b`, or adds it. Returns the number of values written.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn write(self, a: MatrixView<'_>, b: MatrixView<'_>, parallelism: Parallelism) -> usize {
        let inner = a.columns();
        assert_eq!(
            [a.rows(), inner, b.columns()],
            [self.rows, b.rows(), self.columns],
            "rows, inner size and columns of a product"
        );
        let ([a_row, a_column], [b_row, b_column]) = (a.strides(), b.strides());
        self.initialise_vector();
        // SAFETY: `MatrixView` checks that the values of `a` and `b` cover their sizes and strides. This target has exclusive
        // access to its rows and columns; they are initialised where gemm reads them or makes a slice of them. The sizes fit.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                inner,
                self.at,
                1,
                self.stride as isize,
                self.accumulate,
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

    /// Zeroes a result of one row or one column. For a product with a vector gemm 0.19 makes a `&mut [f32]` of the result before
    /// it writes it (`gemm_common::gemv`), which is only allowed for initialised memory.
    fn initialise_vector(&self) {
        if self.accumulate || self.rows > 1 && self.columns > 1 {
            return;
        }
        for row in 0..self.rows {
            for column in 0..self.columns {
                // SAFETY: the position is one of this target's, to which it has exclusive access.
                unsafe { self.at.add(row * self.stride + column).write(0.0) };
            }
        }
    }
}

/// A vector of `count` matrices `[rows, columns]`. `write` must write all of them; it returns the number of values written.
///
/// # Panics
/// If `write` wrote fewer values than there are.
pub fn filled(count: usize, rows: usize, columns: usize, write: impl FnOnce(Vec<Target<'_>>) -> usize) -> Vec<f32> {
    // A size that saturates is more than any memory holds: the allocation fails.
    let each = rows.saturating_mul(columns);
    let length = count.saturating_mul(each);
    let mut values = Vec::<f32>::with_capacity(length);
    let room = &mut values.spare_capacity_mut()[..length];
    let written = write(room.chunks_mut(each.max(1)).map(|y| Target::uninit(y, rows, columns)).collect());
    assert_eq!(written, length, "values written of {count} products of {rows} by {columns}");
    // SAFETY: the capacity is `length`. No two targets share a value and each is written at most once, so that `length` written
    // values are all values.
    unsafe { values.set_len(length) };
    values
}
