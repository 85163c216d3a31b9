//! Linear resizes of small masks to the image, with their adjoints.

use burn::tensor::{Device, Tensor};

use explainer_zoo::bilinear::resize;

use crate::tensors::from_values;

/// A length that a paper gives for images of 224 pixels, scaled to images of `size` (rows, columns).
pub(super) fn proportional(pixels: f64, size: [usize; 2]) -> f64 {
    pixels * size[0].min(size[1]) as f64 / 224.0
}

/// The side in pixels, at least 1, of cells that have `pixels` pixels in images of 224.
pub(super) fn cell_side(pixels: f64, size: [usize; 2]) -> usize {
    (proportional(pixels, size).round() as usize).max(1)
}

/// A separable linear resize of masks `[n,1,h,w]` to `[n,1,H,W]`, and its adjoint for gradients.
#[derive(Clone, Debug)]
pub(super) struct MaskResize {
    /// `[H,h]`
    rows: Tensor<2>,
    /// `[W,w]`
    columns: Tensor<2>,
}

impl MaskResize {
    /// Bilinear interpolation.
    pub fn bilinear([rows, columns]: [usize; 2], [height, width]: [usize; 2], device: &Device) -> Self {
        let side = |cells: usize, pixels: usize| {
            let unit = Tensor::<2>::eye(cells, device).reshape([1, 1, cells, cells]);
            resize(unit, [pixels, cells]).reshape([pixels, cells])
        };
        Self { rows: side(rows, height), columns: side(columns, width) }
    }

    /// Every pixel is the mean of all cells, weighted by a Gaussian of the distance to their centres. The standard
    /// `deviation` and the cells' side `cell` are in pixels.
    pub fn gaussian(
        [rows, columns]: [usize; 2],
        [height, width]: [usize; 2],
        cell: usize,
        deviation: f32,
        device: &Device,
    ) -> Self {
        let side = |cells: usize, pixels: usize| {
            let mut matrix = Vec::with_capacity(pixels * cells);
            for pixel in 0..pixels {
                let distance = |index: usize| pixel as f32 - ((index as f32 + 0.5) * cell as f32 - 0.5);
                let weights: Vec<f32> =
                    (0..cells).map(|index| (-(distance(index) / deviation).powi(2) / 2.0).exp()).collect();
                let sum: f32 = weights.iter().sum();
                matrix.extend(weights.into_iter().map(|weight| weight / sum));
            }
            from_values(matrix, [pixels, cells], device)
        };
        Self { rows: side(rows, height), columns: side(columns, width) }
    }

    /// `[n,1,h,w]` to `[n,1,H,W]`.
    pub fn apply(&self, maps: Tensor<4>) -> Tensor<4> {
        self.rows.clone().unsqueeze::<4>().matmul(maps).matmul(self.columns.clone().transpose().unsqueeze())
    }

    /// The gradient with respect to the small masks, given that with respect to the large ones `[n,1,H,W]`.
    pub fn adjoint(&self, gradient: Tensor<4>) -> Tensor<4> {
        self.rows.clone().transpose().unsqueeze::<4>().matmul(gradient).matmul(self.columns.clone().unsqueeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{normal, values};

    #[test]
    fn the_adjoint_is_exact_and_constants_are_kept() {
        let device = Device::default();
        for resize in
            [MaskResize::bilinear([3, 4], [13, 20], &device), MaskResize::gaussian([3, 4], [13, 20], 5, 4.0, &device)]
        {
            let (small, large) = (normal([2, 1, 3, 4], 1, "a", 0, &device), normal([2, 1, 13, 20], 1, "b", 0, &device));
            let there = values((resize.apply(small.clone()) * large.clone()).sum())[0];
            let back = values((resize.adjoint(large) * small).sum())[0];
            assert!((there - back).abs() < 1e-3, "{there} {back}");
            let ones = values(resize.apply(Tensor::ones([1, 1, 3, 4], &device)));
            assert!(ones.len() == 260 && ones.iter().all(|v| (v - 1.0).abs() < 1e-5));
        }
        let map = normal([1, 1, 3, 4], 2, "m", 0, &device);
        let found = values(MaskResize::bilinear([3, 4], [13, 20], &device).apply(map.clone()));
        let expected = values(resize(map, [13, 20]));
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5));
    }
}
