//! A matrix as a view of a slice.

/// A matrix as a view of a slice, whose length is checked.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Strides: from one row to the next, and from one column to the next.
    strides: [usize; 2],
}

impl<'a> MatrixView<'a> {
    /// A row-major matrix `[rows, columns]`.
    ///
    /// # Panics
    /// Unless `values` holds rows times columns values.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "values of a matrix of {rows} by {columns}");
        Self { values, rows, columns, strides: [columns, 1] }
    }

    /// The transposed matrix, without a copy.
    pub fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self { values: self.values, rows: self.columns, columns: self.rows, strides: [column, row] }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values; the last has index `(rows - 1) * strides[0] + (columns - 1) * strides[1]`.
    pub(crate) fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Strides: from one row to the next, and from one column to the next.
    pub(crate) fn strides(&self) -> [isize; 2] {
        // A slice has at most `isize::MAX` bytes, and no stride is longer than the slice.
        self.strides.map(|stride| stride as isize)
    }
}
