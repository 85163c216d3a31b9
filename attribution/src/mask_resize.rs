//! Small masks at the size of the image.

use burn::tensor::{Device, Tensor};

use super::tensors::from_values;
use explainer_zoo::bilinear::resize;

/// A length that a paper gives in pixels of images of 224, in proportion for images of this size.
pub(super) fn proportional(pixels: f64, size: [usize; 2]) -> f64 {
    pixels * size[0].min(size[1]) as f64 / 224.0
}

/// The side of cells that are so many pixels of images of 224, at least 1.
pub(super) fn cell(pixels: f64, size: [usize; 2]) -> usize {
    (proportional(pixels, size).round() as usize).max(1)
}

/// A linear resize of maps `[n,1,h,w]` to `[n,1,H,W]`, and its adjoint, which takes gradients back.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    /// `[H,h]`
    rows: Tensor<2>,
    /// `[W,w]`
    columns: Tensor<2>,
}

impl Spread {
    /// Bilinear.
    pub fn bilinear([rows, columns]: [usize; 2], [height, width]: [usize; 2], device: &Device) -> Self {
        let side = |cells: usize, pixels: usize| {
            let unit = Tensor::<2>::eye(cells, device).reshape([1, 1, cells, cells]);
            resize(unit, [pixels, cells]).reshape([pixels, cells])
        };
        Self { rows: side(rows, height), columns: side(columns, width) }
    }

    /// Every pixel the mean of all cells, weighted by a Gaussian of its distance to their centres with this standard
    /// deviation in pixels; `cell` is their side.
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

    /// A gradient with respect to the large maps as one with respect to the small.
    pub fn adjoint(&self, gradient: Tensor<4>) -> Tensor<4> {
        self.rows.clone().transpose().unsqueeze::<4>().matmul(gradient).matmul(self.columns.clone().unsqueeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{normal, values};

    #[test]
    fn the_adjoint_is_one_and_constants_stay() {
        let device = Device::default();
        for spread in [Spread::bilinear([3, 4], [13, 20], &device), Spread::gaussian([3, 4], [13, 20], 5, 4.0, &device)]
        {
            let (small, large) = (normal([2, 1, 3, 4], 1, "a", 0, &device), normal([2, 1, 13, 20], 1, "b", 0, &device));
            let there = values((spread.apply(small.clone()) * large.clone()).sum())[0];
            let back = values((spread.adjoint(large) * small).sum())[0];
            assert!((there - back).abs() < 1e-3, "{there} {back}");
            let ones = values(spread.apply(Tensor::ones([1, 1, 3, 4], &device)));
            assert!(ones.len() == 260 && ones.iter().all(|v| (v - 1.0).abs() < 1e-5));
        }
        let map = normal([1, 1, 3, 4], 2, "m", 0, &device);
        let found = values(Spread::bilinear([3, 4], [13, 20], &device).apply(map.clone()));
        let expected = values(resize(map, [13, 20]));
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5));
    }
}
