//! RISE (Petsiuk et al., 2018).

use std::ops::Range;

use burn::tensor::{Device, Tensor, activation::softmax};

use super::tensors::{column, from_values, parts};
use super::{AttributionError, AttributionMethod};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::explainer::bee::Stream;
use explainer_zoo::maps::min_max;

/// sum_n p(x * M_n) M_n / (N E(M)), p the class's probability (equation 6), stretched to 0..1. A hole in a normalised
/// image is the data's mean colour.
///
/// N forward passes. The images of a batch share their masks, which are made a few at a time.
#[derive(Clone, Debug)]
pub struct Rise {
    /// Where the masks come from.
    pub masks: Masks,
    /// Masked images in memory at a time.
    pub per_call: usize,
}

/// The masks of RISE.
#[derive(Clone, Debug)]
pub enum Masks {
    /// `count` random ones: a grid of `side` x `side` cells, each 1 with probability `keep` and else 0, resized (bilinear)
    /// until it reaches a cell beyond the image, and cut at a random place. The paper's are 4,000 or 8,000 of side 7 with
    /// 1/2.
    Random {
        /// N
        count: usize,
        /// Cells a side.
        side: usize,
        /// Probability of a cell to be kept.
        keep: f64,
        /// Of the random numbers.
        seed: u64,
    },
    /// These, `[N,1,H,W]`.
    Fixed(Tensor<4>),
}

impl Masks {
    fn count(&self) -> usize {
        match self {
            Self::Random { count, .. } => *count,
            Self::Fixed(masks) => masks.dims()[0],
        }
    }

    /// The masks of this range for images of `size` (rows, columns): `[n,1,H,W]`.
    fn some(&self, range: Range<usize>, size: [usize; 2], device: &Device) -> Tensor<4> {
        let (side, keep, seed) = match self {
            Self::Fixed(masks) => return masks.clone().narrow(0, range.start, range.len()),
            Self::Random { side, keep, seed, .. } => ((*side).max(1), *keep, *seed),
        };
        let cell = size.map(|pixels| pixels.div_ceil(side).max(1));
        let mut grids = Vec::with_capacity(range.len() * side * side);
        let mut corners = Vec::with_capacity(range.len());
        for number in range.clone() {
            let mut stream = Stream::new(seed, "rise mask", &[number as u64]);
            grids.extend((0..side * side).map(|_| f32::from(u8::from(stream.flip(keep)))));
            corners.push(cell.map(|cell| stream.below(cell)));
        }
        let grids = from_values(grids, [range.len(), 1, side, side], device);
        let masks = resize(grids, cell.map(|cell| cell * (side + 1)));
        let cut = corners
            .into_iter()
            .enumerate()
            .map(|(row, [top, left])| masks.clone().narrow(0, row, 1).narrow(2, top, size[0]).narrow(3, left, size[1]));
        Tensor::cat(cut.collect(), 0)
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
        for part in parts(self.masks.count(), self.per_call) {
            let masks = self.masks.some(part.clone(), [height, width], &device);
            let flat = masks.clone().reshape([part.len(), height * width]);
            for ((image, class), sum) in classes.iter().enumerate().zip(&mut sums) {
                let masked = images.clone().narrow(0, image, 1) * masks.clone();
                let scores = column(softmax(backbone.forward(masked, &[]).logits, 1), *class);
                *sum = sum.clone() + scores.unsqueeze::<2>().matmul(flat.clone());
            }
        }
        // Dividing by N E[M] changes nothing in what is stretched.
        Ok(min_max(Tensor::cat(sums, 0).reshape([batch, 1, height, width])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensors::values;
    use super::*;

    fn random(count: usize) -> Masks {
        Masks::Random { count, side: 7, keep: 0.5, seed: 3 }
    }

    #[test]
    fn masks_are_smooth_half_kept_and_a_function_of_their_number() {
        let device = Device::default();
        let masks = random(200);
        let all = masks.some(0..200, [20, 29], &device);
        assert_eq!(all.dims(), [200, 1, 20, 29]);
        let flat = values(all.clone());
        assert!(flat.iter().all(|v| (-1e-6..1.0 + 1e-6).contains(v)));
        let mean = flat.iter().sum::<f32>() / flat.len() as f32;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        // A cell of 3 x 5 pixels: no step between neighbours is larger than a third.
        let steps = values((all.clone().narrow(2, 1, 19) - all.clone().narrow(2, 0, 19)).abs());
        assert!(steps.iter().all(|step| *step < 0.34));
        assert_eq!(values(masks.some(17..19, [20, 29], &device)), values(all.narrow(0, 17, 2)));
    }
}
