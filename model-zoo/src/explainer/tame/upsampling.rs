//! Resizes the class maps of several taps to one size and sums them.

use std::cmp::Reverse;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::backbone::TapSpec;
use crate::bilinear::resize;

/// How the taps come to the side of the head's maps; bilinear with align_corners = false either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// By one resize (TAME, T-TAME, L-CAM).
    #[default]
    Resize,
    /// By doubling until the side is reached (P-TAME). These are not the numbers of one resize where a tap has to be
    /// doubled more than once.
    Doubling,
}

/// A tap whose maps cannot be doubled to the first tap's side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "on images of {pixels} pixels tap {tap} has a side of {side} cells, which doubling does not bring to the \
     {expected} of the first tap, {first}; choose taps that have the first one's side, or a half, a quarter, ... of it, \
     the largest first"
)]
pub struct WrongScale {
    /// Side of the images.
    pub pixels: usize,
    /// The tap's name.
    pub tap: String,
    /// Its side.
    pub side: usize,
    /// The first tap's name.
    pub first: String,
    /// The first tap's side, which is that of the maps.
    pub expected: usize,
}

impl Upsampling {
    /// Whether it is [`Upsampling::Resize`].
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the maps of all taps can be brought to one side, on images of `pixels` a side.
    ///
    /// # Errors
    /// [`WrongScale`] for the first tap that doubling does not bring to the first one's side.
    pub fn check(self, taps: &[TapSpec], pixels: usize) -> Result<(), WrongScale> {
        let (Self::Doubling, Some(first)) = (self, taps.first()) else { return Ok(()) };
        let expected = first.grid(pixels);
        for tap in taps {
            let side = tap.grid(pixels);
            let mut reached = side;
            while (1..expected).contains(&reached) {
                reached *= 2;
            }
            if reached != expected {
                let (tap, first) = (tap.name.clone(), first.name.clone());
                return Err(WrongScale { pixels, tap, side, first, expected });
            }
        }
        Ok(())
    }

    /// The sum of `parts` `[B,k,h_i,w_i]` at one `size`; `None` without parts.
    ///
    /// Doubling is linear, so parts of one resolution are summed before they are doubled together (Horner's scheme):
    /// as many doublings as the smallest part needs, whatever the number of parts.
    pub(super) fn sum(self, mut parts: Vec<Tensor<4>>, size: [usize; 2]) -> Option<Tensor<4>> {
        if self == Self::Resize {
            return parts.into_iter().map(|part| resize(part, size)).reduce(|sum, part| sum + part);
        }
        parts.sort_by_key(|part| Reverse(part.dims()[2]));
        let mut sum: Option<Tensor<4>> = None;
        while let Some(part) = parts.pop() {
            let [_, _, height, width] = part.dims();
            sum = Some(match sum {
                Some(sum) => doubled(sum, [height, width]) + part,
                None => part,
            });
        }
        sum.map(|sum| doubled(sum, size))
    }
}

/// Maps doubled until they have `size`. Taps that [`Upsampling::check`] refuses are resized instead.
fn doubled(mut maps: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    loop {
        let [_, _, height, width] = maps.dims();
        if height == 0 || 2 * height > size[0] || 2 * width > size[1] {
            return resize(maps, size);
        }
        maps = resize(maps, [2 * height, 2 * width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    fn values(maps: Tensor<4>) -> Vec<f32> {
        maps.into_data().iter::<f32>().collect()
    }

    /// The weights with which doubling a row once mixes it: a cell's two halves lie a quarter of a cell off its centre.
    fn double_row(row: &[f32]) -> Vec<f32> {
        let at = |i: isize| row[i.clamp(0, row.len() as isize - 1) as usize];
        let halves = |i: isize| [0.25 * at(i - 1) + 0.75 * at(i), 0.75 * at(i) + 0.25 * at(i + 1)];
        (0..row.len() as isize).flat_map(halves).collect()
    }

    /// The definition by hand: rows, then columns, doubled `times` over.
    fn chain(mut map: Vec<Vec<f32>>, times: usize) -> Vec<Vec<f32>> {
        let turned = |map: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            (0..map[0].len()).map(|column| map.iter().map(|row| row[column]).collect()).collect()
        };
        for _ in 0..times {
            for _ in 0..2 {
                map = turned(map.iter().map(|row| double_row(row)).collect());
            }
        }
        map
    }

    fn wavy(side: usize, seed: f32) -> Vec<Vec<f32>> {
        (0..side).map(|y| (0..side).map(|x| (seed + 1.7 * y as f32 + (x * x) as f32).sin()).collect()).collect()
    }

    fn tensor(map: &[Vec<f32>], device: &Device) -> Tensor<4> {
        let flat = map.concat();
        Tensor::<1>::from_floats(flat.as_slice(), device).reshape([1, 1, map.len(), map[0].len()])
    }

    #[test]
    fn horners_scheme_is_the_sum_of_the_chains() {
        let device = Device::default();
        // Twice the same side, a side that is skipped, and not the largest first.
        let maps: Vec<_> = [(12, 1.0), (3, 2.0), (24, 3.0), (3, 4.0)].map(|(side, seed)| wavy(side, seed)).into();
        let mut expected = vec![0.0; 24 * 24];
        for map in &maps {
            let full = chain(map.clone(), (24 / map.len()).ilog2() as usize).concat();
            expected.iter_mut().zip(full).for_each(|(sum, value)| *sum += value);
        }
        let parts = maps.iter().map(|map| tensor(map, &device)).collect();
        let found = values(Upsampling::Doubling.sum(parts, [24, 24]).unwrap());
        let error = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5, "off by {error}");
    }

    #[test]
    fn doubling_twice_is_not_one_resize() {
        let device = Device::default();
        let part = || vec![tensor(&wavy(3, 0.0), &device)];
        let chain = values(Upsampling::Doubling.sum(part(), [12, 12]).unwrap());
        let once = values(Upsampling::Resize.sum(part(), [12, 12]).unwrap());
        let difference = chain.iter().zip(&once).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference > 0.05, "{difference}");
        let double = |kind: Upsampling| values(kind.sum(part(), [6, 6]).unwrap());
        assert_eq!(double(Upsampling::Doubling), double(Upsampling::Resize), "once it is");
    }

    #[test]
    fn parts_of_any_side_come_to_the_size() {
        let device = Device::default();
        for kind in [Upsampling::Resize, Upsampling::Doubling] {
            let parts = [7, 5, 30, 1].map(|side| Tensor::ones([1, 2, side, side], &device)).into();
            let sum = kind.sum(parts, [14, 14]).unwrap();
            assert_eq!(sum.dims(), [1, 2, 14, 14]);
            assert!(values(sum).iter().all(|v| (v - 4.0).abs() < 1e-5));
            assert!(kind.sum(Vec::new(), [14, 14]).is_none());
        }
    }

    #[test]
    fn the_gradient_reaches_every_part() {
        let device = Device::default().autodiff();
        let part = |side: usize| {
            let count = (side * side) as i64;
            Tensor::<1, Int>::arange(0..count, &device).float().reshape([1, 1, side, side]).require_grad()
        };
        let parts = [part(8), part(4), part(2)];
        let gradients = Upsampling::Doubling.sum(parts.to_vec(), [8, 8]).unwrap().sum().backward();
        for part in parts {
            let [.., side] = part.dims();
            let total: f32 = values(part.grad(&gradients).unwrap()).iter().sum();
            // Every cell of the sum is a weighted mean of the part's.
            assert!((total - 64.0).abs() < 1e-3, "side {side}: {total}");
        }
    }

    #[test]
    fn taps_at_a_wrong_scale_are_refused() {
        let taps = |strides: &[usize]| -> Vec<TapSpec> {
            strides.iter().map(|stride| TapSpec::map(format!("at{stride}"), 1, *stride)).collect()
        };
        for (strides, pixels) in [(&[4, 8, 16, 32][..], 224), (&[32, 32], 224), (&[4, 32], 96), (&[], 224)] {
            assert_eq!(Upsampling::Doubling.check(&taps(strides), pixels), Ok(()), "{strides:?} {pixels}");
        }
        // A smaller one first; 58 x 58 and 29 x 29, of which the next half is no whole number.
        for (strides, pixels, tap, side, expected) in
            [(&[8, 4][..], 224, "at4", 56, 28), (&[4, 8, 16], 232, "at16", 15, 58), (&[8, 14], 224, "at14", 16, 28)]
        {
            let error = Upsampling::Doubling.check(&taps(strides), pixels).unwrap_err();
            assert_eq!((error.tap.as_str(), error.side, error.expected), (tap, side, expected));
            let text = error.to_string();
            for part in [tap, &side.to_string(), &expected.to_string(), &error.first, &pixels.to_string()] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(Upsampling::Resize.check(&taps(strides), pixels), Ok(()));
        }
    }
}
