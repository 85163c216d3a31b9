//! Stride and padding of a convolution.

/// The stride and the zero padding of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvGeometry {
    /// Stride, at least 1.
    pub stride: usize,
    /// Zeros before and after the rows, and before and after the columns; each less than the kernel's side.
    pub padding: [(usize, usize); 2],
}

impl ConvGeometry {
    /// Height and width of the output, for an input of that size and a square kernel.
    pub fn output(self, input: [usize; 2], kernel: usize) -> [usize; 2] {
        [0, 1].map(|axis| {
            let (before, after) = self.padding[axis];
            (input[axis] + before + after).saturating_sub(kernel) / self.stride.max(1) + 1
        })
    }
}
