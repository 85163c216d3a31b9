//! Which of a batch's maps the area and smoothness terms see.

use burn::tensor::{Int, Tensor};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which class maps of an image the loss regularises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The maps of every class that was predicted for some image of the batch.
    #[default]
    Batch,
    /// The map of the image's own predicted class alone.
    Matching,
}

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
    matching_from(maps, 0)
}

/// As [`matching`], of a share `[b,B,h,w]` of a batch of B images, whose first image is number `first` of the batch:
/// `[b,1,h,w]`.
pub fn matching_from(maps: Tensor<4>, first: usize) -> Tensor<4> {
    let [share, batch, height, width] = maps.dims();
    let diagonal = Tensor::<1, Int>::arange_step(first as i64..(share * batch) as i64, batch + 1, &maps.device());
    maps.reshape([share * batch, height, width]).select(0, diagonal).reshape([share, 1, height, width])
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
    fn shares_have_the_batchs_matching_maps() {
        let maps = maps(&Device::default());
        let shares =
            vec![matching_from(maps.clone().narrow(0, 0, 1), 0), matching_from(maps.clone().narrow(0, 1, 2), 1)];
        assert_eq!(Tensor::cat(shares, 0).into_data(), matching(maps).into_data());
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
