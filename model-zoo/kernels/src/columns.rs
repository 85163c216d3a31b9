//! The inputs of a convolution with step 1, laid out for a matrix product.

use std::ops::Range;

/// A square filter of odd side over planes that keep their size: as many zeros on every side as it needs for that.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Height and width of a plane.
    pub size: [usize; 2],
    /// Side of the filter.
    pub kernel: usize,
}

impl Columns {
    /// The inputs of the outputs in some rows, from an image's planes `x` `[C,H,W]`: `[C,k,k,n]`, that is, for each tap of each
    /// channel the plane's rows shifted to where the tap looks. A shift of whole rows is one copy; what it carries over
    /// the planes' edges is replaced by zeros.
    pub fn of(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let ([height, width], kernel) = (self.size, self.kernel);
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

    #[test]
    fn each_tap_sees_the_cell_beside_its_output() {
        for (size, kernel) in [([3, 4], 3), ([1, 1], 3), ([5, 2], 5), ([2, 7], 1), ([4, 1], 3)] {
            let [height, width] = size;
            let x: Vec<f32> = (0..2 * height * width).map(|i| i as f32 + 1.0).collect();
            for rows in [0..height, height - 1..height, 0..1] {
                let found = Columns { size, kernel }.of(&x, rows.clone());
                let mut expected = Vec::new();
                for plane in x.chunks(height * width) {
                    for tap in 0..kernel * kernel {
                        for place in rows.start * width..rows.end * width {
                            let y = (place / width + tap / kernel).checked_sub(kernel / 2).filter(|y| *y < height);
                            let x = (place % width + tap % kernel).checked_sub(kernel / 2).filter(|x| *x < width);
                            expected.push(y.zip(x).map_or(0.0, |(y, x)| plane[y * width + x]));
                        }
                    }
                }
                assert_eq!(found, expected, "{size:?}, {kernel}, rows {rows:?}");
            }
        }
    }
}
