//! RISE.

use std::ops::Range;

use burn::tensor::{Device, Tensor, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

use crate::method::Built;
use crate::tensors::{RandomStream, chunks, class_scores, from_values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "rise",
    title: "RISE",
    family: Family::Perturbation,
    paper: "Petsiuk et al., 2018",
    access: Access::Logits,
    passes: "n forward",
    parameter: Some(("MASKS", 8000)),
};

pub(crate) fn build(context: &MethodContext<'_>, count: usize) -> Built {
    let masks = Masks::Random { count, side: 7, keep: 0.5, seed: context.seed };
    Ok(Box::new(Rise { masks, batch_size: context.batch_size }))
}

/// RISE (Petsiuk et al., 2018, equation 6): sum_n p(x * M_n) M_n / (N E(M)), p the class's probability, min-max normalised.
/// Zero in a normalised image is the mean colour of the data.
///
/// Maps `[B,1,H,W]` in 0..=1. N forward passes an image. The images of a batch share their masks, of which `batch_size`
/// exist at a time.
#[derive(Clone, Debug)]
pub struct Rise {
    /// The masks.
    pub masks: Masks,
    /// Masked images in one call of the backbone.
    pub batch_size: usize,
}

/// The masks of RISE.
#[derive(Clone, Debug)]
pub enum Masks {
    /// Random masks: a grid of `side` x `side` cells, each 1 with probability `keep` and else 0, resized (bilinear) to one
    /// cell more than the image and cropped at a random offset. The paper takes 4,000 or 8,000 of side 7 with probability
    /// 1/2.
    Random {
        /// N
        count: usize,
        /// Cells of each side.
        side: usize,
        /// Probability of a cell to be 1.
        keep: f64,
        /// Seed of the masks.
        seed: u64,
    },
    /// Given masks, `[N,1,H,W]`.
    Fixed(Tensor<4>),
}

impl Masks {
    fn count(&self) -> usize {
        match self {
            Self::Random { count, .. } => *count,
            Self::Fixed(masks) => masks.dims()[0],
        }
    }

    /// Masks `range` for images of `size` (rows, columns): `[n,1,H,W]`.
    fn slice(&self, range: Range<usize>, size: [usize; 2], device: &Device) -> Tensor<4> {
        let (side, keep, seed) = match self {
            Self::Fixed(masks) => return masks.clone().narrow(0, range.start, range.len()),
            Self::Random { side, keep, seed, .. } => ((*side).max(1), *keep, *seed),
        };
        let cell = size.map(|pixels| pixels.div_ceil(side).max(1));
        let mut grids = Vec::with_capacity(range.len() * side * side);
        let mut offsets = Vec::with_capacity(range.len());
        for number in range.clone() {
            let mut stream = RandomStream::new(seed, "rise mask", &[number as u64]);
            grids.extend((0..side * side).map(|_| f32::from(u8::from(stream.flip(keep)))));
            offsets.push(cell.map(|cell| stream.below(cell)));
        }
        let grids = from_values(grids, [range.len(), 1, side, side], device);
        let masks = resize(grids, cell.map(|cell| cell * (side + 1)));
        let cropped = offsets
            .into_iter()
            .enumerate()
            .map(|(row, [top, left])| masks.clone().narrow(0, row, 1).narrow(2, top, size[0]).narrow(3, left, size[1]));
        Tensor::cat(cropped.collect(), 0)
    }
}

impl AttributionMethod for Rise {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let [batch, _, height, width] = images.dims();
        let device = images.device();
        if let Masks::Fixed(masks) = &self.masks {
            let found = masks.dims();
            if found[0] == 0 || found[1..] != [1, height, width] {
                return Err(AttributionError::Masks { found, expected: [height, width] });
            }
        }
        let mut sums: Vec<Tensor<2>> = vec![Tensor::zeros([1, height * width], &device); batch];
        for chunk in chunks(self.masks.count(), self.batch_size) {
            let masks = self.masks.slice(chunk.clone(), [height, width], &device);
            let flat = masks.clone().reshape([chunk.len(), height * width]);
            for ((image, class), sum) in classes.iter().enumerate().zip(&mut sums) {
                let masked = images.clone().narrow(0, image, 1) * masks.clone();
                let scores = class_scores(softmax(backbone.forward(masked, &[]).logits, 1), *class);
                *sum = sum.clone() + scores.unsqueeze::<2>().matmul(flat.clone());
            }
        }
        // Normalisation removes the factor 1 / (N E[M]).
        Ok(min_max(Tensor::cat(sums, 0).reshape([batch, 1, height, width])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::values;

    fn random(count: usize) -> Masks {
        Masks::Random { count, side: 7, keep: 0.5, seed: 3 }
    }

    #[test]
    fn masks_are_smooth_with_mean_one_half_and_a_function_of_their_number() {
        let device = Device::default();
        let masks = random(200);
        let all = masks.slice(0..200, [20, 29], &device);
        assert_eq!(all.dims(), [200, 1, 20, 29]);
        let flat = values(all.clone());
        assert!(flat.iter().all(|v| (-1e-6..1.0 + 1e-6).contains(v)));
        let mean = flat.iter().sum::<f32>() / flat.len() as f32;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        // A cell of 3 x 5 pixels: no step between neighbours is larger than a third.
        let steps = values((all.clone().narrow(2, 1, 19) - all.clone().narrow(2, 0, 19)).abs());
        assert!(steps.iter().all(|step| *step < 0.34));
        assert_eq!(values(masks.slice(17..19, [20, 29], &device)), values(all.narrow(0, 17, 2)));
    }
}
