//! One small kernel over each plane of a batch: depthwise convolution, its input gradient, and the windows of max pooling.
//!
//! A plane is copied into a padded buffer in which rows and columns are grouped by their remainder modulo the stride
//! (phases). In that layout every kernel position is a shift by a constant number of values, whatever the stride, so that
//! the outputs of all rows form one long row. The compiler vectorises it, and narrow planes fill the registers as well as
//! wide ones.

use rayon::prelude::*;

use crate::elements::with_simd;

/// Outputs that are summed at a time: they stay in the L1 cache together with the inputs of one kernel row.
const BLOCK: usize = 1 << 10;
/// Output values that a thread computes at a time.
const SHARE: usize = 1 << 14;

/// The geometry of a square kernel over a padded plane.
#[derive(Clone, Copy, Debug)]
pub struct Stencil {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Padding before the first row and before the first column. After the last there is as much as the outputs need.
    pub padding: [usize; 2],
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride, at least 1.
    pub stride: usize,
    /// Dilation of the input, as in a transposed convolution: `input_dilation - 1` zeros between two inputs. At least 1.
    pub input_dilation: usize,
}

impl Stencil {
    /// Depthwise convolution of the planes `x`: `output[y][x]` is the sum over i, j of
    /// `filter[i][j] padded[stride y + i][stride x + j]`. `filters` is `[C,k,k]`; plane p belongs to channel p modulo C.
    pub fn run(&self, x: &[f32], filters: &[f32], output: &mut [f32]) {
        let [from, to, area] = [self.input, self.output, [self.kernel; 2]].map(|[rows, columns]| rows * columns);
        let channels = filters.len() / area.max(1);
        if from == 0 || to == 0 || channels == 0 {
            return;
        }
        let planes = (SHARE / to).max(1);
        let jobs = output.par_chunks_mut(to * planes).zip(x.par_chunks(from * planes)).enumerate();
        jobs.for_each_init(
            || (vec![0.0; self.padded()], vec![0.0; self.row()]),
            |(padded, sums), (job, (output, x))| {
                for (i, (output, x)) in output.chunks_exact_mut(to).zip(x.chunks_exact(from)).enumerate() {
                    let channel = (job * planes + i) % channels;
                    let filter = &filters[channel * area..][..area];
                    with_simd(
                        #[inline(always)]
                        || {
                            self.pad(x, padded);
                            self.sum(padded, filter, sums);
                            self.gather(sums, output);
                        },
                    );
                }
            },
        );
    }

    /// Columns of one phase of the padded plane.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.output[1] + (self.kernel - 1) / self.stride
    }

    /// Values of one phase of the padded plane.
    #[inline(always)]
    fn phase(&self) -> usize {
        (self.output[0] + (self.kernel - 1) / self.stride) * self.width()
    }

    /// Offset in the padded plane of the value that a kernel position reads for the first output; those for the other
    /// outputs follow.
    #[inline(always)]
    pub(crate) fn shift(&self, position: usize) -> usize {
        let [row, column] = [position / self.kernel, position % self.kernel];
        let phases = row % self.stride * self.stride + column % self.stride;
        phases * self.phase() + row / self.stride * self.width() + column / self.stride
    }

    /// Values of the padded plane.
    #[inline(always)]
    pub(crate) fn padded(&self) -> usize {
        self.stride * self.stride * self.phase()
    }

    /// Values from the first output to the last, including the gaps between rows.
    #[inline(always)]
    pub(crate) fn row(&self) -> usize {
        (self.output[0] - 1) * self.width() + self.output[1]
    }

    /// Copies a plane into its phases. Padding is left as it is.
    #[inline(always)]
    pub(crate) fn pad(&self, x: &[f32], padded: &mut [f32]) {
        let (stride, input_dilation) = (self.stride, self.input_dilation);
        let [rows, columns] = self.output.map(|side| (side - 1) * stride + self.kernel);
        for (i, x) in x.chunks_exact(self.input[1]).enumerate() {
            let row = self.padding[0] + i * input_dilation;
            if row >= rows {
                break;
            }
            let from = row % stride * stride * self.phase() + row / stride * self.width();
            let count = columns.saturating_sub(self.padding[1]).div_ceil(input_dilation).min(x.len());
            if stride == 1 {
                let to = &mut padded[from + self.padding[1]..];
                copy_strided(&x[..count], 1, to, input_dilation);
                continue;
            }
            // Columns `stride` apart in the padded plane are `stride` apart in x, too.
            for first in 0..stride.min(count) {
                let column = self.padding[1] + first * input_dilation;
                let to = &mut padded[from + column % stride * self.phase() + column / stride..];
                copy_strided(&x[first..count], stride, to, input_dilation);
            }
        }
    }

    /// The outputs without the gaps between rows.
    #[inline(always)]
    pub(crate) fn gather(&self, sums: &[f32], output: &mut [f32]) {
        let (count, width) = (self.output[1], self.width());
        for y in 0..self.output[0] {
            output[y * count..][..count].copy_from_slice(&sums[y * width..][..count]);
        }
    }

    #[inline(always)]
    fn sum(&self, padded: &[f32], filter: &[f32], sums: &mut [f32]) {
        for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
            sums.fill(0.0);
            for (i, weights) in filter.chunks_exact(self.kernel).enumerate() {
                let row = i % self.stride * self.stride * self.phase() + i / self.stride * self.width() + block * BLOCK;
                let inputs = |j: usize| &padded[row + j % self.stride * self.phase() + j / self.stride..];
                match self.kernel {
                    3 => add::<3>(sums, weights, inputs),
                    5 => add::<5>(sums, weights, inputs),
                    _ => (0..self.kernel).for_each(|j| add::<1>(sums, &weights[j..], |_| inputs(j))),
                }
            }
        }
    }
}

/// Copies every `step`-th value of `x`, from the first, to every `input_dilation`-th of `to`.
#[inline(always)]
fn copy_strided(x: &[f32], step: usize, to: &mut [f32], input_dilation: usize) {
    let count = x.len().div_ceil(step);
    if count == 0 {
        return;
    }
    match (step, input_dilation) {
        (1, 1) => to[..count].copy_from_slice(x),
        (2, 1) => {
            let (pairs, last) = x.as_chunks::<2>();
            let (to, end) = to[..count].split_at_mut(pairs.len());
            to.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[0]);
            end.copy_from_slice(last);
        }
        (1, 2) => {
            let (to, end) = to[..2 * count - 1].as_chunks_mut::<2>();
            to.iter_mut().zip(x).for_each(|(to, x)| to[0] = *x);
            end.copy_from_slice(&x[count - 1..]);
        }
        _ => (0..count).for_each(|i| to[i * input_dilation] = x[i * step]),
    }
}

/// Adds the sum over j < N of `weights[j] * inputs(j)` to `sums`.
#[inline(always)]
fn add<'a, const N: usize>(sums: &mut [f32], weights: &[f32], inputs: impl Fn(usize) -> &'a [f32]) {
    let count = sums.len();
    let mut shifted = [&[][..]; N];
    for (j, values) in shifted.iter_mut().enumerate() {
        *values = &inputs(j)[..count];
    }
    let weights = &weights[..N];
    for i in 0..count {
        let mut sum = sums[i];
        for j in 0..N {
            sum += weights[j] * shifted[j][i];
        }
        sums[i] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one output at a time.
    fn by_definition(stencil: Stencil, x: &[f32], filters: &[f32]) -> Vec<f32> {
        let Stencil { input, output, padding, kernel, stride, input_dilation } = stencil;
        let channels = filters.len() / (kernel * kernel);
        let at = |plane: &[f32], place: [usize; 2]| {
            let place: Option<Vec<usize>> = (0..2)
                .map(|axis| place[axis].checked_sub(padding[axis]))
                .map(|p| p.filter(|p| p.is_multiple_of(input_dilation)).map(|p| p / input_dilation))
                .collect();
            match place.as_deref() {
                Some([y, x]) if *y < input[0] && *x < input[1] => plane[y * input[1] + x],
                _ => 0.0,
            }
        };
        let mut all = Vec::new();
        for (p, plane) in x.chunks(input[0] * input[1]).enumerate() {
            let filter = &filters[p % channels * kernel * kernel..][..kernel * kernel];
            for y in 0..output[0] {
                for x in 0..output[1] {
                    let positions = (0..kernel * kernel).map(|t| [t / kernel, t % kernel]);
                    all.push(
                        positions
                            .map(|[i, j]| filter[i * kernel + j] * at(plane, [y * stride + i, x * stride + j]))
                            .sum(),
                    );
                }
            }
        }
        all
    }

    #[test]
    fn every_filter_is_its_definition() {
        for kernel in [1, 3, 4, 5, 7] {
            for (stride, input_dilation) in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (2, 3)] {
                for (input, padding) in [([9, 9], [1, 1]), ([8, 5], [0, 2]), ([1, 1], [3, 0]), ([40, 61], [2, 1])] {
                    let output = [0, 1].map(|axis| {
                        let padded: usize = (input[axis] - 1) * input_dilation + 1 + 2 * padding[axis] + 1;
                        padded.saturating_sub(kernel) / stride + 1
                    });
                    let stencil = Stencil { input, output, padding, kernel, stride, input_dilation };
                    // Numbers without a pattern in -0.5..0.5.
                    let signed = |from: usize, n: usize| -> Vec<f32> {
                        (from..from + n).map(|i| ((i * i) as f64 * 0.618_034).fract() as f32 - 0.5).collect()
                    };
                    let (x, filters) = (signed(7, 6 * input[0] * input[1]), signed(901, 3 * kernel * kernel));
                    let mut y = vec![f32::NAN; 6 * output[0] * output[1]];
                    stencil.run(&x, &filters, &mut y);
                    for (y, expected) in y.iter().zip(by_definition(stencil, &x, &filters)) {
                        assert!((y - expected).abs() < 1e-5, "{stencil:?}: {y} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn empty_planes_are_no_planes() {
        let stencil =
            Stencil { input: [0, 4], output: [1, 4], padding: [1, 1], kernel: 3, stride: 1, input_dilation: 1 };
        stencil.run(&[], &[0.0; 9], &mut []);
    }
}
