//! im2col and col2im: the inputs of a dense convolution, laid out for a matrix product, and back.

use std::ops::Range;

/// The geometry of a convolution of zero-padded planes with a square kernel.
#[derive(Clone, Copy, Debug)]
pub struct Im2col {
    /// Height and width of an input plane.
    pub input: [usize; 2],
    /// Height and width of an output plane.
    pub output: [usize; 2],
    /// Side of the kernel; it may be wider than the plane.
    pub kernel: usize,
    /// Stride, at least 1.
    pub stride: usize,
    /// Rows of zeros above and columns of zeros left of the input.
    pub padding: [usize; 2],
}

impl Im2col {
    /// Whether output planes have the size of input planes and the kernel is centred on its output ("same" padding at
    /// stride 1).
    pub fn is_same(&self) -> bool {
        self.stride == 1 && self.input == self.output && self.padding == [self.kernel / 2; 2] && self.kernel % 2 == 1
    }

    /// im2col: the inputs of the output rows `rows`, from the planes `x` `[C,H,W]` of one image, to `[C,k,k,n]`, where n
    /// counts the outputs of those rows. Positions outside the planes are zero.
    pub fn unfold(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        match self.is_same() {
            true => self.unfold_same(x, rows),
            false => self.unfold_strided(x, rows),
        }
    }

    /// [`Im2col::unfold`] with "same" padding. For each kernel position the plane's rows are shifted by a constant: a single
    /// copy. What it carries over the left and right edges is then set to zero.
    fn unfold_same(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let ([height, width], kernel) = (self.input, self.kernel);
        let (padding, count) = (kernel / 2, rows.len() * width);
        let mut columns = Vec::with_capacity(x.len() / (height * width).max(1) * kernel * kernel * count);
        for plane in x.chunks_exact((height * width).max(1)) {
            for position in 0..kernel * kernel {
                // The first output reads the plane at `first - offset`.
                let offset = padding * width + padding;
                let first = (rows.start + position / kernel) * width + position % kernel;
                let from = first.saturating_sub(offset).min(plane.len());
                let to = (first + count).saturating_sub(offset).min(plane.len());
                let start = columns.len();
                columns.resize(start + offset.saturating_sub(first).min(count), 0.0);
                columns.extend_from_slice(&plane[from..to.max(from)]);
                columns.resize(start + count, 0.0);
                let column = position % kernel;
                let outside = match column < padding {
                    true => 0..(padding - column).min(width),
                    false => (width + padding).saturating_sub(column)..width,
                };
                if !outside.is_empty() {
                    columns[start..].chunks_exact_mut(width).for_each(|row| row[outside.clone()].fill(0.0));
                }
            }
        }
        columns
    }

    /// [`Im2col::unfold`] for any stride and padding, row by row.
    fn unfold_strided(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let ([height, width], count) = (self.input, rows.len() * self.output[1]);
        let planes = x.len() / (height * width).max(1);
        let mut columns = Vec::with_capacity(planes * self.kernel * self.kernel * count);
        for plane in x.chunks_exact((height * width).max(1)) {
            for position in 0..self.kernel * self.kernel {
                let (outputs, first) = self.inside(position % self.kernel);
                for row in rows.clone() {
                    let end = columns.len() + self.output[1];
                    if let Some(from) = self.input_row(row, position / self.kernel).filter(|_| !outputs.is_empty()) {
                        columns.resize(columns.len() + outputs.start, 0.0);
                        let inputs = plane[from * width + first..].iter().step_by(self.stride);
                        columns.extend(inputs.take(outputs.len()));
                    }
                    columns.resize(end, 0.0);
                }
            }
        }
        columns
    }

    /// col2im, the adjoint of [`Im2col::unfold`]: adds every value of `columns` `[C,k,k,n]` to the position of the planes `x`
    /// `[C,H,W]` that `unfold` reads it from.
    pub fn fold_add(&self, columns: &[f32], rows: Range<usize>, x: &mut [f32]) {
        let ([height, width], row_length) = (self.input, self.output[1].max(1));
        let mut columns = columns.chunks_exact(row_length);
        for plane in x.chunks_exact_mut((height * width).max(1)) {
            for position in 0..self.kernel * self.kernel {
                let (outputs, first) = self.inside(position % self.kernel);
                for (row, column) in rows.clone().zip(&mut columns) {
                    if let Some(to) = self.input_row(row, position / self.kernel).filter(|_| !outputs.is_empty()) {
                        let inputs = plane[to * width + first..].iter_mut().step_by(self.stride);
                        inputs.zip(&column[outputs.clone()]).for_each(|(input, value)| *input += value);
                    }
                }
            }
        }
    }

    /// The input row that kernel row `position` reads for an output row; `None` in the padding.
    fn input_row(&self, row: usize, position: usize) -> Option<usize> {
        (row * self.stride + position).checked_sub(self.padding[0]).filter(|row| *row < self.input[0])
    }

    /// The output columns for which kernel column `position` reads inside the input, and the first input column that it
    /// reads.
    fn inside(&self, position: usize) -> (Range<usize>, usize) {
        let missing = self.padding[1].saturating_sub(position);
        let start = missing.div_ceil(self.stride);
        let end = (self.input[1] + self.padding[1]).saturating_sub(position).div_ceil(self.stride).min(self.output[1]);
        (start..end.max(start), (start * self.stride + position).saturating_sub(self.padding[1]))
    }
}

/// The filters of a convolution's input gradient: `[O,C,k,k]` to `[C,O,k,k]`, each kernel rotated by 180 degrees.
pub fn rotate_filters(weight: &[f32], [outputs, inputs]: [usize; 2]) -> Vec<f32> {
    let kernel = weight.len() / (outputs * inputs).max(1);
    let mut rotated = Vec::with_capacity(weight.len());
    for input in 0..inputs {
        for output in 0..outputs {
            rotated.extend(weight[(output * inputs + input) * kernel..][..kernel].iter().rev());
        }
    }
    rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Convolutions of all kinds, among them those with "same" padding.
    fn all() -> Vec<Im2col> {
        // The last ones have kernels that are wider than the plane.
        let same =
            [([3, 4], 3), ([5, 2], 5), ([2, 7], 1), ([1, 1], 3), ([4, 1], 3), ([3, 1], 5), ([1, 2], 7), ([2, 1], 9)];
        let mut all: Vec<_> = same
            .into_iter()
            .map(|(size, kernel)| Im2col { input: size, output: size, kernel, stride: 1, padding: [kernel / 2; 2] })
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
            all.push(Im2col { input, output, kernel, stride, padding: [before; 2] });
        }
        // Rows and columns with different padding.
        all.push(Im2col { input: [6, 7], output: [3, 4], kernel: 3, stride: 2, padding: [0, 1] });
        all.push(Im2col { input: [4, 5], output: [4, 5], kernel: 3, stride: 1, padding: [1, 0] });
        all
    }

    #[test]
    fn unfold_and_fold_are_the_definition() {
        for im2col in all() {
            let Im2col { input: [height, width], output, kernel, stride, padding } = im2col;
            let x: Vec<f32> = (0..2 * height * width).map(|i| i as f32 + 1.0).collect();
            for rows in [0..output[0], output[0] - 1..output[0], 0..1] {
                let found = im2col.unfold(&x, rows.clone());
                let (mut expected, mut times) = (Vec::new(), vec![0.0; x.len()]);
                for (plane, times) in x.chunks(height * width).zip(times.chunks_mut(height * width)) {
                    for position in 0..kernel * kernel {
                        for place in rows.start * output[1]..rows.end * output[1] {
                            let y = place / output[1] * stride + position / kernel;
                            let y = y.checked_sub(padding[0]).filter(|y| *y < height);
                            let x = place % output[1] * stride + position % kernel;
                            let x = x.checked_sub(padding[1]).filter(|x| *x < width);
                            let cell = y.zip(x).map(|(y, x)| y * width + x);
                            expected.push(cell.map_or(0.0, |cell| plane[cell]));
                            cell.into_iter().for_each(|cell| times[cell] += plane[cell]);
                        }
                    }
                }
                assert_eq!(found, expected, "{im2col:?}, rows {rows:?}");
                let mut back = vec![0.0; x.len()];
                im2col.fold_add(&found, rows.clone(), &mut back);
                assert_eq!(back, times, "{im2col:?}, rows {rows:?}");
            }
        }
    }
}
