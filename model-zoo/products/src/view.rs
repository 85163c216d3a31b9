//! A matrix in a slice.

/// A matrix in a slice that is long enough for it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next, and from one column to the next.
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]` row by row.
    ///
    /// # Panics
    /// If `values` are not as many.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "values of a matrix of {rows} by {columns}");
        Self { values, rows, columns, steps: [columns, 1] }
    }

    /// Rows and columns exchanged; nothing moves.
    pub fn transposed(self) -> Self {
        let [row, column] = self.steps;
        Self { values: self.values, rows: self.columns, columns: self.rows, steps: [column, row] }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values: `(rows - 1) * steps[0] + (columns - 1) * steps[1]` is the last of them, where there are any.
    pub(crate) fn values(&self) -> &'a [f32] {
        self.values
    }

    /// From one row to the next, and from one column to the next.
    pub(crate) fn steps(&self) -> [isize; 2] {
        // A slice is shorter than `isize::MAX` bytes, and its rows are no longer than it is.
        self.steps.map(|step| step as isize)
    }
}
