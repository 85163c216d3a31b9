//! Which of a batch's maps the area and smoothness terms see.

use burn::tensor::{Int, Tensor};

use crate::config::Selection;

impl Selection {
    /// Picks from `maps` `[B,B,h,w]`, whose column `j` belongs to the class predicted for image `j`.
    pub fn select(self, maps: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Batch => maps,
            Self::Matching => matching(maps),
        }
    }
}

/// Each image's map for its own predicted class: the diagonal `[B,1,h,w]` of `maps` `[B,B,h,w]`, whose column `j`
/// belongs to the class predicted for image `j`.
pub fn matching(maps: Tensor<4>) -> Tensor<4> {
    let [batch, _, height, width] = maps.dims();
    let diagonal = Tensor::<1, Int>::arange_step(0..(batch * batch) as i64, batch + 1, &maps.device());
    maps.reshape([batch * batch, height, width]).select(0, diagonal).reshape([batch, 1, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn maps(device: &Device) -> Tensor<4> {
        Tensor::<1, Int>::arange(0..3 * 3 * 2 * 2, device).float().reshape([3, 3, 2, 2])
    }

    #[test]
    fn the_matching_maps_are_the_diagonal() {
        let selected = Selection::Matching.select(maps(&Device::default()));
        assert_eq!(selected.dims(), [3, 1, 2, 2]);
        let values = selected.try_into_vec_as::<f32>().unwrap();
        assert_eq!(values, [0., 1., 2., 3., 16., 17., 18., 19., 32., 33., 34., 35.]);
    }

    #[test]
    fn only_the_diagonal_gets_a_gradient_from_the_matching_maps() {
        let maps = maps(&Device::default().autodiff()).require_grad();
        let gradients = matching(maps.clone()).sum().backward();
        let gradient = maps.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
        let expected: Vec<f32> = (0..36).map(|i| if (i / 4) % 4 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(gradient, expected);
    }

    #[test]
    fn one_image_has_one_map() {
        let maps = Tensor::<4>::ones([1, 1, 2, 3], &Device::default());
        assert_eq!(matching(maps).dims(), [1, 1, 2, 3]);
    }
}
