//! Heat maps under measurement.

use std::cell::OnceCell;
use std::ops::Range;

use burn::tensor::{Bool, Tensor, TensorData};

use super::image_batch::pick;
use super::{ExplainFn, ImageBatch, Memo, MetricError, ModelState, Prediction};
use crate::GroundTruth;
use explainer_zoo::bilinear::resize;

/// N heat maps of a subject's images: one for each image, or any number for any of them.
#[derive(Debug)]
pub struct Attributions<'a> {
    subject: &'a ImageBatch<'a>,
    of: Vec<usize>,
    maps: Vec<f32>,
    sound: Vec<bool>,
    order: OnceCell<Vec<u32>>,
    explainer: Option<&'a dyn ExplainFn>,
    memo: Memo,
}

/// An image of which some of the most important pixels are taken from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The map that says what is important.
    pub map: usize,
    /// How many pixels.
    pub count: usize,
}

impl<'a> Attributions<'a> {
    /// One map for each image, `[B,1,h,w]` in 0..1.
    ///
    /// # Errors
    /// [`MetricError::Shape`].
    pub fn new(subject: &'a ImageBatch<'a>, maps: Tensor<4>) -> Result<Self, MetricError> {
        Self::of(subject, maps, (0..subject.len()).collect())
    }

    /// Maps `[N,1,h,w]` in 0..1, map `n` of image `of[n]`.
    ///
    /// # Errors
    /// [`MetricError::Shape`].
    pub fn of(subject: &'a ImageBatch<'a>, maps: Tensor<4>, of: Vec<usize>) -> Result<Self, MetricError> {
        let [count, channels, height, width] = maps.dims();
        if channels != 1 || height * width == 0 || count != of.len() {
            let (found, expected) = (format!("{:?}", maps.dims()), format!("[{}, 1, h, w]", of.len()));
            return Err(MetricError::Shape { what: "the maps' shape", found, expected });
        }
        if let Some(image) = of.iter().find(|image| **image >= subject.len()) {
            let expected = format!("below {}, the number of images", subject.len());
            return Err(MetricError::Shape { what: "the image of a map", found: image.to_string(), expected });
        }
        Ok(Self::unchecked(subject, maps, of))
    }

    /// [`Attributions::of`] for maps that are known to be the images'.
    pub(super) fn unchecked(subject: &'a ImageBatch<'a>, maps: Tensor<4>, of: Vec<usize>) -> Self {
        let [height, width] = subject.size();
        let small: Vec<f32> = maps.to_data().iter::<f32>().collect();
        let mut full: Vec<f32> = resize(maps, [height, width]).into_data().iter::<f32>().collect();
        let mut sound = Vec::with_capacity(of.len());
        let each = small.len() / of.len().max(1);
        for (map, full) in small.chunks(each.max(1)).zip(full.chunks_mut(height * width)) {
            let finite = map.iter().all(|value| value.is_finite());
            sound.push(finite);
            match map.first() {
                _ if !finite => full.fill(0.0),
                // Resizing rounds: the pixels of a constant map would not all be equal.
                Some(first) if map.iter().all(|value| value == first) => full.fill(*first),
                // -0.0 would be ranked below 0.0.
                _ => full.iter_mut().for_each(|value| *value += 0.0),
            }
        }
        Self { subject, of, maps: full, sound, order: OnceCell::new(), explainer: None, memo: Memo::default() }
    }

    /// The explainer that the maps are of, for metrics that ask it again; without it they are undefined.
    #[must_use]
    pub fn with_explainer(self, explainer: &'a dyn ExplainFn) -> Self {
        Self { explainer: Some(explainer), memo: Memo::default(), ..self }
    }

    /// The explainer's maps `[n,1,h,w]` of images that `make` makes, a range of them at a time, for these classes of the
    /// classifier's. Nothing without an explainer, and at a stage of the randomisation that it is not prepared for.
    ///
    /// # Errors
    /// As [`ExplainFn::explain`].
    pub fn explain(
        &self,
        classes: &[usize],
        sight: ModelState,
        mut make: impl FnMut(Range<usize>) -> Tensor<4>,
    ) -> Result<Option<Tensor<4>>, MetricError> {
        let ready = |explainer: &&dyn ExplainFn| match sight {
            ModelState::Trained => true,
            ModelState::Randomised(stage) => stage < explainer.stages(),
        };
        let known = self.subject.backbone().spec().classes;
        let asked = |_: &&dyn ExplainFn| !classes.is_empty() && classes.iter().all(|class| *class < known);
        let Some(explainer) = self.explainer.filter(ready).filter(asked) else { return Ok(None) };
        let portions = self.subject.portions(classes.len());
        let drawn = portions.map(|range| explainer.explain(make(range.clone()), &classes[range], sight));
        Ok(Some(Tensor::cat(drawn.collect::<Result<_, _>>()?, 0)))
    }

    /// The images.
    #[must_use]
    pub fn subject(&self) -> &'a ImageBatch<'a> {
        self.subject
    }

    /// Number of maps N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there is no map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The image of each map.
    #[must_use]
    pub fn images(&self) -> &[usize] {
        &self.of
    }

    /// Whether every value of each map is finite. Those of which not are all zeros in [`Attributions::maps`].
    #[must_use]
    pub fn sound(&self) -> &[bool] {
        &self.sound
    }

    /// The maps at the images' size, H W values each, row by row.
    pub fn maps(&self) -> impl Iterator<Item = &[f32]> {
        self.maps.chunks(self.pixels().max(1))
    }

    /// Pixels of an image.
    #[must_use]
    pub fn pixels(&self) -> usize {
        let [height, width] = self.subject.size();
        height * width
    }

    /// Pixels that make up `percent` of an image, rounded down.
    #[must_use]
    pub fn share(&self, percent: f64) -> usize {
        (self.pixels() as f64 * percent / 100.0) as usize
    }

    /// The pixels of map `map` by falling value, of equals the first in reading order first. For all maps at once, when
    /// first asked for.
    #[must_use]
    pub fn order(&self, map: usize) -> &[u32] {
        let order = self.order.get_or_init(|| self.maps().flat_map(ranked).collect());
        order.chunks(self.pixels().max(1)).nth(map).unwrap_or_default()
    }

    /// Results that depend on the maps, for metrics to share.
    #[must_use]
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The classifier's answer to the whole image of map `map`.
    #[must_use]
    pub fn clean(&self, map: usize) -> Prediction {
        self.subject.clean(self.of.get(map).copied().unwrap_or(usize::MAX))
    }

    /// What is known of the image of map `map` apart from its pixels.
    #[must_use]
    pub fn truth(&self, map: usize) -> Option<&'a GroundTruth> {
        self.subject.truth(*self.of.get(map)?)
    }

    /// For each frame its image, with the frame's most important pixels from `front` and the others from `back` (both
    /// `[B,3,H,W]`): `[n,3,H,W]`.
    #[must_use]
    pub fn blend(&self, frames: &[Frame], front: &Tensor<4>, back: &Tensor<4>) -> Tensor<4> {
        let [height, width] = self.subject.size();
        let pixels = self.pixels();
        let mut mask = vec![false; frames.len() * pixels];
        for (frame, mask) in frames.iter().zip(mask.chunks_mut(pixels.max(1))) {
            for pixel in self.order(frame.map).iter().take(frame.count) {
                mask[*pixel as usize] = true;
            }
        }
        let of: Vec<usize> = frames.iter().filter_map(|frame| self.of.get(frame.map).copied()).collect();
        let mask = TensorData::new(mask, [frames.len(), 1, height, width]);
        let mask = Tensor::<4, Bool>::from_data(mask, &back.device()).expand([frames.len(), 3, height, width]);
        pick(back, &of).mask_where(mask, pick(front, &of))
    }

    /// What the classifier makes of [`Attributions::blend`]'s images, a few at a time.
    #[must_use]
    pub fn predict(&self, frames: &[Frame], front: &Tensor<4>, back: &Tensor<4>) -> Vec<Prediction> {
        self.predict_with(frames, |frames| self.blend(frames, front, back))
    }

    /// What the classifier makes of the images that `make` makes of a few frames at a time.
    pub fn predict_with(&self, frames: &[Frame], mut make: impl FnMut(&[Frame]) -> Tensor<4>) -> Vec<Prediction> {
        let of: Vec<usize> = frames.iter().filter_map(|frame| self.of.get(frame.map).copied()).collect();
        self.subject.predict(&of, |range| make(frames.get(range).unwrap_or_default()))
    }

    /// The same steps for every map: frames of map 0 first, `counts` in their order for each.
    #[must_use]
    pub fn frames(&self, counts: &[usize]) -> Vec<Frame> {
        (0..self.len()).flat_map(|map| counts.iter().map(move |count| Frame { map, count: *count })).collect()
    }
}

/// Positions by falling value, of equals the first first.
fn ranked(map: &[f32]) -> Vec<u32> {
    // One integer holds a value's place in the falling order and, below it, its position: no two are equal, so that
    // the faster unstable sort will do.
    let mut keys: Vec<u64> = map
        .iter()
        .zip(0_u64..)
        .map(|(value, position)| {
            let bits = value.to_bits();
            let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            u64::from(!rising) << 32 | position
        })
        .collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::testing::{Brightness, image, map, subject};
    use super::*;

    #[test]
    fn pixels_are_ranked_by_falling_value_and_ties_in_reading_order() {
        assert_eq!(ranked(&[0.5, -1.0, 0.5, 2.0, -2.0, 0.0]), [3, 0, 2, 5, 1, 4]);
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.0; 4], [2, 2]));
        let case = Attributions::new(&subject, map(&[0.0, -0.0, 0.0, 1.0], [2, 2])).unwrap();
        assert_eq!(case.order(0), [3, 0, 1, 2]);
    }

    #[test]
    fn frames_take_the_most_important_pixels_from_the_front() {
        let backbone = Brightness::new();
        let images = Tensor::cat(vec![image(&[0.0; 4], [2, 2]), image(&[0.5; 4], [2, 2])], 0);
        let subject = subject(&backbone, images.clone());
        let maps = Tensor::cat(vec![map(&[0.1, 0.4, 0.3, 0.2], [2, 2]), map(&[1.0, 0.0, 0.0, 0.0], [2, 2])], 0);
        let case = Attributions::of(&subject, maps, vec![1, 0]).unwrap();
        let frames = [Frame { map: 0, count: 2 }, Frame { map: 1, count: 1 }, Frame { map: 0, count: 9 }];
        let blended = case.blend(&frames, &images.ones_like(), &images);
        assert_eq!(blended.dims(), [3, 3, 2, 2]);
        let values: Vec<f32> = blended.into_data().iter::<f32>().collect();
        assert_eq!(values[..4], [0.5, 1.0, 1.0, 0.5], "of image 1, by map 0");
        assert_eq!(values[12..16], [1.0, 0.0, 0.0, 0.0], "of image 0, by map 1");
        assert_eq!(values[24..], [1.0; 12]);
    }

    #[test]
    fn odd_maps_have_a_defined_form() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.0; 15], [3, 5]));
        let maps = [map(&[0.3; 4], [2, 2]), map(&[f32::NAN, 1.0, 0.0, 0.5], [2, 2])];
        let case = Attributions::of(&subject, Tensor::cat(maps.to_vec(), 0), vec![0, 0]).unwrap();
        assert_eq!(case.sound(), [true, false]);
        let maps: Vec<&[f32]> = case.maps().collect();
        assert_eq!(maps, [&[0.3; 15][..], &[0.0; 15]]);
        assert_eq!(case.order(0), (0..15).collect::<Vec<u32>>());
    }

    #[test]
    fn maps_of_another_number_or_image_are_refused() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.0; 4], [2, 2]));
        let problem = |shape, of| {
            Attributions::of(&subject, Tensor::zeros(shape, &Device::default()), of).unwrap_err().to_string()
        };
        assert!(problem([1, 2, 2, 2], vec![0]).contains("[1, 2, 2, 2], expected [1, 1, h, w]"));
        assert!(problem([2, 1, 2, 2], vec![0]).contains("expected [1, 1, h, w]"));
        assert!(problem([1, 1, 2, 2], vec![1]).contains("is 1, expected below 1"));
    }
}
