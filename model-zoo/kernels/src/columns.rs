//! The inputs of a dense convolution, laid out for a matrix product.

use std::ops::Range;

/// Where a square filter looks in a plane around which there are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Height and width of an input plane.
    pub input: [usize; 2],
    /// Height and width of an output plane.
    pub output: [usize; 2],
    /// Side of the filter.
    pub kernel: usize,
    /// Step between outputs, at least 1.
    pub stride: usize,
    /// Rows of zeros above and columns of zeros left of the input.
    pub before: [usize; 2],
}

impl Columns {
    /// Whether the outputs are as many as the inputs, with the filter's middle on the input of the same place.
    pub fn is_same(&self) -> bool {
        self.stride == 1 && self.input == self.output && self.before == [self.kernel / 2; 2] && self.kernel % 2 == 1
    }

    /// The inputs of the outputs in some rows, from an image's planes `x` `[C,H,W]`: `[C,k,k,n]`, zeros outside the planes.
    pub fn of(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        match self.is_same() {
            true => self.shifted(x, rows),
            false => self.picked(x, rows),
        }
    }

    /// For each tap of each channel the plane's rows shifted to where the tap looks. A shift of whole rows is one copy; what
    /// it carries over the planes' edges is replaced by zeros.
    fn shifted(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let ([height, width], kernel) = (self.input, self.kernel);
        let (around, count) = (kernel / 2, rows.len() * width);
        let mut columns = Vec::with_capacity(x.len() / (height * width).max(1) * kernel * kernel * count);
        for plane in x.chunks_exact((height * width).max(1)) {
            for tap in 0..kernel * kernel {
                // The first output looks at this cell of the plane with `before` cells before it.
                let before = around * width + around;
                let first = (rows.start + tap / kernel) * width + tap % kernel;
                let from = first.saturating_sub(before).min(plane.len());
                let to = (first + count).saturating_sub(before).min(plane.len());
                let start = columns.len();
                columns.resize(start + before.saturating_sub(first).min(count), 0.0);
                columns.extend_from_slice(&plane[from..to.max(from)]);
                columns.resize(start + count, 0.0);
                let column = tap % kernel;
                let edge = if column < around { 0..around - column } else { width + around - column..width };
                if edge.start < edge.end && edge.start < width {
                    for row in columns[start..].chunks_exact_mut(width) {
                        row[edge.start..edge.end.min(width)].fill(0.0);
                    }
                }
            }
        }
        columns
    }

    /// For each tap of each channel row by row the cells where the tap looks.
    fn picked(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let ([height, width], count) = (self.input, rows.len() * self.output[1]);
        let planes = x.len() / (height * width).max(1);
        let mut columns = Vec::with_capacity(planes * self.kernel * self.kernel * count);
        for plane in x.chunks_exact((height * width).max(1)) {
            for tap in 0..self.kernel * self.kernel {
                let (outputs, first) = self.inside(tap % self.kernel);
                for row in rows.clone() {
                    let end = columns.len() + self.output[1];
                    if let Some(from) = self.looks_at(row, tap / self.kernel).filter(|_| !outputs.is_empty()) {
                        columns.resize(columns.len() + outputs.start, 0.0);
                        let seen = plane[from * width + first..].iter().step_by(self.stride);
                        columns.extend(seen.take(outputs.len()));
                    }
                    columns.resize(end, 0.0);
                }
            }
        }
        columns
    }

    /// The other way: adds every value of `columns`, laid out as [`Columns::of`] lays them, to the cell of the planes `x` `[C,H,W]` that
    /// it would have been taken from.
    pub fn add_to(&self, columns: &[f32], rows: Range<usize>, x: &mut [f32]) {
        let ([height, width], row_length) = (self.input, self.output[1].max(1));
        let mut columns = columns.chunks_exact(row_length);
        for plane in x.chunks_exact_mut((height * width).max(1)) {
            for tap in 0..self.kernel * self.kernel {
                let (outputs, first) = self.inside(tap % self.kernel);
                for (row, column) in rows.clone().zip(&mut columns) {
                    if let Some(to) = self.looks_at(row, tap / self.kernel).filter(|_| !outputs.is_empty()) {
                        let cells = plane[to * width + first..].iter_mut().step_by(self.stride);
                        cells.zip(&column[outputs.clone()]).for_each(|(cell, value)| *cell += value);
                    }
                }
            }
        }
    }

    /// The row of the input that a tap in this row of the filter sees from a row of the output, if there is one.
    fn looks_at(&self, row: usize, tap: usize) -> Option<usize> {
        (row * self.stride + tap).checked_sub(self.before[0]).filter(|row| *row < self.input[0])
    }

    /// The columns of the output from which a tap in this column of the filter sees the input, and the first that it sees.
    fn inside(&self, tap: usize) -> (Range<usize>, usize) {
        let missing = self.before[1].saturating_sub(tap);
        let start = missing.div_ceil(self.stride);
        let end = (self.input[1] + self.before[1]).saturating_sub(tap).div_ceil(self.stride).min(self.output[1]);
        (start..end.max(start), (start * self.stride + tap).saturating_sub(self.before[1]))
    }
}

/// Filters `[O,C,k,k]` turned into those that take the output's gradient to the input's: `[C,O,k,k]`, each filter turned around.
pub fn turned(weight: &[f32], [outputs, inputs]: [usize; 2]) -> Vec<f32> {
    let taps = weight.len() / (outputs * inputs).max(1);
    let mut turned = Vec::with_capacity(weight.len());
    for input in 0..inputs {
        for output in 0..outputs {
            turned.extend(weight[(output * inputs + input) * taps..][..taps].iter().rev());
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Convolutions of all sorts, those that keep the planes' size among them.
    fn all() -> Vec<Columns> {
        let same = [([3, 4], 3), ([1, 1], 3), ([5, 2], 5), ([2, 7], 1), ([4, 1], 3)];
        let mut all: Vec<_> = same
            .into_iter()
            .map(|(size, kernel)| Columns { input: size, output: size, kernel, stride: 1, before: [kernel / 2; 2] })
            .collect();
        for (input, kernel, stride, [before, after]) in [
            ([7, 6], 3, 2, [1, 1]),
            ([8, 5], 7, 2, [3, 3]),
            ([6, 6], 3, 2, [0, 1]),
            ([5, 4], 1, 2, [0, 0]),
            ([4, 9], 2, 3, [0, 0]),
            ([1, 2], 3, 4, [1, 1]),
            ([5, 5], 3, 1, [0, 0]),
        ] {
            let output = input.map(|side| (side + before + after - kernel) / stride + 1);
            all.push(Columns { input, output, kernel, stride, before: [before; 2] });
        }
        // Other zeros above than on the left.
        all.push(Columns { input: [6, 7], output: [3, 4], kernel: 3, stride: 2, before: [0, 1] });
        all.push(Columns { input: [4, 5], output: [4, 5], kernel: 3, stride: 1, before: [1, 0] });
        all
    }

    #[test]
    fn each_tap_sees_the_cell_beside_its_output_and_gives_it_back() {
        for columns in all() {
            let Columns { input: [height, width], output, kernel, stride, before } = columns;
            let x: Vec<f32> = (0..2 * height * width).map(|i| i as f32 + 1.0).collect();
            for rows in [0..output[0], output[0] - 1..output[0], 0..1] {
                let found = columns.of(&x, rows.clone());
                let (mut expected, mut times) = (Vec::new(), vec![0.0; x.len()]);
                for (plane, times) in x.chunks(height * width).zip(times.chunks_mut(height * width)) {
                    for tap in 0..kernel * kernel {
                        for place in rows.start * output[1]..rows.end * output[1] {
                            let y = place / output[1] * stride + tap / kernel;
                            let y = y.checked_sub(before[0]).filter(|y| *y < height);
                            let x = place % output[1] * stride + tap % kernel;
                            let x = x.checked_sub(before[1]).filter(|x| *x < width);
                            let cell = y.zip(x).map(|(y, x)| y * width + x);
                            expected.push(cell.map_or(0.0, |cell| plane[cell]));
                            cell.into_iter().for_each(|cell| times[cell] += plane[cell]);
                        }
                    }
                }
                assert_eq!(found, expected, "{columns:?}, rows {rows:?}");
                let mut back = vec![0.0; x.len()];
                columns.add_to(&found, rows.clone(), &mut back);
                assert_eq!(back, times, "{columns:?}, rows {rows:?}");
            }
        }
    }
}
