//! Heat maps under measurement.

use std::cell::OnceCell;
use std::ops::Range;

use burn::tensor::{Bool, Tensor, TensorData};
use explainer_zoo::bilinear::resize;

use crate::image_batch::select;
use crate::{Cache, ExplainFn, GroundTruth, ImageBatch, MetricError, ModelState, Prediction};

/// N heat maps of the images of a batch: one for each image, or any number for any of them.
#[derive(Debug)]
pub struct MetricInput<'a> {
    batch: &'a ImageBatch<'a>,
    image_indices: Vec<usize>,
    maps: Vec<f32>,
    finite: Vec<bool>,
    ranking: OnceCell<Vec<u32>>,
    explainer: Option<&'a dyn ExplainFn>,
    cache: Cache,
}

/// The `count` pixels with the largest values of a map. They select the pixels of a perturbed image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopPixels {
    /// Index of the map.
    pub map: usize,
    /// Number of pixels.
    pub count: usize,
}

impl<'a> MetricInput<'a> {
    /// One map for each image of the batch: `[B,1,h,w]`, in 0..=1.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for maps of another shape.
    pub fn new(batch: &'a ImageBatch<'a>, maps: Tensor<4>) -> Result<Self, MetricError> {
        Self::for_images(batch, maps, (0..batch.len()).collect())
    }

    /// Maps `[N,1,h,w]` in 0..=1; map n explains image `image_indices[n]` of the batch.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for maps of another shape, or an index that is not below B.
    pub fn for_images(
        batch: &'a ImageBatch<'a>,
        maps: Tensor<4>,
        image_indices: Vec<usize>,
    ) -> Result<Self, MetricError> {
        let [count, channels, height, width] = maps.dims();
        if channels != 1 || height * width == 0 || count != image_indices.len() {
            let (found, expected) = (format!("{:?}", maps.dims()), format!("[{}, 1, h, w]", image_indices.len()));
            return Err(MetricError::Shape { what: "the shape of the maps", found, expected });
        }
        if let Some(image) = image_indices.iter().find(|image| **image >= batch.len()) {
            let expected = format!("below {}, the number of images", batch.len());
            return Err(MetricError::Shape { what: "the image index of a map", found: image.to_string(), expected });
        }
        Ok(Self::unchecked(batch, maps, image_indices))
    }

    /// [`MetricInput::for_images`] without checks.
    pub(crate) fn unchecked(batch: &'a ImageBatch<'a>, maps: Tensor<4>, image_indices: Vec<usize>) -> Self {
        let [height, width] = batch.size();
        let given: Vec<f32> = maps.to_data().iter::<f32>().collect();
        let mut upsampled: Vec<f32> = resize(maps, [height, width]).into_data().iter::<f32>().collect();
        let mut finite = Vec::with_capacity(image_indices.len());
        let each = given.len() / image_indices.len().max(1);
        for (map, upsampled) in given.chunks(each.max(1)).zip(upsampled.chunks_mut(height * width)) {
            let all_finite = map.iter().all(|value| value.is_finite());
            finite.push(all_finite);
            match map.first() {
                _ if !all_finite => upsampled.fill(0.0),
                // Rounding in the resize would make the pixels of a constant map differ.
                Some(first) if map.iter().all(|value| value == first) => upsampled.fill(*first),
                // -0.0 would rank below 0.0.
                _ => upsampled.iter_mut().for_each(|value| *value += 0.0),
            }
        }
        let (ranking, cache) = (OnceCell::new(), Cache::default());
        Self { batch, image_indices, maps: upsampled, finite, ranking, explainer: None, cache }
    }

    /// Adds the explainer that computed the maps, for metrics that need further maps. Without it they are undefined.
    #[must_use]
    pub fn with_explainer(self, explainer: &'a dyn ExplainFn) -> Self {
        Self { explainer: Some(explainer), cache: Cache::default(), ..self }
    }

    /// The explainer's maps `[n,1,h,w]` for target classes `classes`. `make` returns the normalised images `[n,3,H,W]` of a
    /// range of entries. `None` without an explainer, without classes, for a class that the classifier does not have, and
    /// at a stage of the randomisation that the explainer does not have.
    ///
    /// # Errors
    /// As [`ExplainFn::explain`].
    pub fn explain(
        &self,
        classes: &[usize],
        model: ModelState,
        mut make: impl FnMut(Range<usize>) -> Tensor<4>,
    ) -> Result<Option<Tensor<4>>, MetricError> {
        let has_state = |explainer: &&dyn ExplainFn| match model {
            ModelState::Trained => true,
            ModelState::Randomised(stage) => stage < explainer.stages(),
        };
        let class_count = self.batch.backbone().spec().classes;
        let has_classes = !classes.is_empty() && classes.iter().all(|class| *class < class_count);
        let Some(explainer) = self.explainer.filter(has_state).filter(|_| has_classes) else { return Ok(None) };
        let batches = self.batch.batches(classes.len());
        let maps = batches.map(|range| explainer.explain(make(range.clone()), &classes[range], model));
        Ok(Some(Tensor::cat(maps.collect::<Result<_, _>>()?, 0)))
    }

    /// The images that the maps explain.
    #[must_use]
    pub fn batch(&self) -> &'a ImageBatch<'a> {
        self.batch
    }

    /// Number of maps N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.image_indices.len()
    }

    /// Whether there is no map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.image_indices.is_empty()
    }

    /// Index of each map's image in the batch.
    #[must_use]
    pub fn image_indices(&self) -> &[usize] {
        &self.image_indices
    }

    /// Whether every value of each map is finite. The other maps are all zeros in [`MetricInput::maps`].
    #[must_use]
    pub fn finite(&self) -> &[bool] {
        &self.finite
    }

    /// The maps, upsampled bilinearly to the images' size: H W values each, row by row.
    pub fn maps(&self) -> impl Iterator<Item = &[f32]> {
        self.maps.chunks(self.pixels().max(1))
    }

    /// Number of pixels of an image, H W.
    #[must_use]
    pub fn pixels(&self) -> usize {
        let [height, width] = self.batch.size();
        height * width
    }

    /// Number of pixels that make up `percent` of an image, rounded down.
    #[must_use]
    pub fn pixel_count(&self, percent: f64) -> usize {
        (self.pixels() as f64 * percent / 100.0) as usize
    }

    /// The pixels of map `map`, largest value first; of equal values the first in reading order first. Computed for all
    /// maps at the first call.
    #[must_use]
    pub fn ranking(&self, map: usize) -> &[u32] {
        let ranking = self.ranking.get_or_init(|| self.maps().flat_map(ranked).collect());
        ranking.chunks(self.pixels().max(1)).nth(map).unwrap_or_default()
    }

    /// Cache of intermediate results that depend on the maps.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The classifier's prediction for the clean image of map `map`; `None` where its scores are not finite.
    #[must_use]
    pub fn clean(&self, map: usize) -> Option<Prediction> {
        self.batch.clean(*self.image_indices.get(map)?)
    }

    /// Ground truth of the image of map `map`.
    #[must_use]
    pub fn ground_truth(&self, map: usize) -> Option<&'a GroundTruth> {
        self.batch.ground_truth(*self.image_indices.get(map)?)
    }

    /// The same numbers of top pixels for every map: all `counts` of map 0 first, then those of map 1, and so on.
    #[must_use]
    pub fn top_pixels(&self, counts: &[usize]) -> Vec<TopPixels> {
        (0..self.len()).flat_map(|map| counts.iter().map(move |count| TopPixels { map, count: *count })).collect()
    }

    /// Perturbed images `[n,3,H,W]`, one for each entry of `top`: its pixels are those of `foreground`, all others those of
    /// `background`, both `[B,3,H,W]`.
    #[must_use]
    pub fn composite(&self, top: &[TopPixels], foreground: &Tensor<4>, background: &Tensor<4>) -> Tensor<4> {
        let [height, width] = self.batch.size();
        let pixels = self.pixels();
        let mut mask = vec![false; top.len() * pixels];
        for (top, mask) in top.iter().zip(mask.chunks_mut(pixels.max(1))) {
            for pixel in self.ranking(top.map).iter().take(top.count) {
                mask[*pixel as usize] = true;
            }
        }
        let images = self.images_of(top);
        let mask = TensorData::new(mask, [top.len(), 1, height, width]);
        let mask = Tensor::<4, Bool>::from_data(mask, &background.device()).expand([top.len(), 3, height, width]);
        select(background, &images).mask_where(mask, select(foreground, &images))
    }

    /// Predictions for the images of [`MetricInput::composite`], as [`ImageBatch::predict`].
    #[must_use]
    pub fn predict(
        &self,
        top: &[TopPixels],
        foreground: &Tensor<4>,
        background: &Tensor<4>,
    ) -> Vec<Option<Prediction>> {
        self.predict_with(top, |top| self.composite(top, foreground, background))
    }

    /// Predictions for the perturbed images that `make` returns, normalised, for a few entries of `top` at a time.
    pub fn predict_with(
        &self,
        top: &[TopPixels],
        mut make: impl FnMut(&[TopPixels]) -> Tensor<4>,
    ) -> Vec<Option<Prediction>> {
        self.batch.predict(&self.images_of(top), |range| make(top.get(range).unwrap_or_default()))
    }

    fn images_of(&self, top: &[TopPixels]) -> Vec<usize> {
        top.iter().filter_map(|top| self.image_indices.get(top.map).copied()).collect()
    }
}

/// Positions by falling value, of equal values the first one first.
fn ranked(map: &[f32]) -> Vec<u32> {
    // Each key holds a value's place in falling order and, in the lower bits, its position. No two keys are equal, so the
    // faster unstable sort keeps the order of ties.
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

    use super::*;
    use crate::testing::{batch, brightness, image, map};

    #[test]
    fn pixels_are_ranked_by_falling_value_and_ties_in_reading_order() {
        assert_eq!(ranked(&[0.5, -1.0, 0.5, 2.0, -2.0, 0.0]), [3, 0, 2, 5, 1, 4]);
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.0; 4], [2, 2]));
        let attributions = MetricInput::new(&batch, map(&[0.0, -0.0, 0.0, 1.0], [2, 2])).unwrap();
        assert_eq!(attributions.ranking(0), [3, 0, 1, 2]);
    }

    #[test]
    fn composites_take_the_top_pixels_from_the_foreground() {
        let backbone = brightness();
        let images = Tensor::cat(vec![image(&[0.0; 4], [2, 2]), image(&[0.5; 4], [2, 2])], 0);
        let batch = batch(&backbone, images.clone());
        let maps = Tensor::cat(vec![map(&[0.1, 0.4, 0.3, 0.2], [2, 2]), map(&[1.0, 0.0, 0.0, 0.0], [2, 2])], 0);
        let attributions = MetricInput::for_images(&batch, maps, vec![1, 0]).unwrap();
        let top = [TopPixels { map: 0, count: 2 }, TopPixels { map: 1, count: 1 }, TopPixels { map: 0, count: 9 }];
        let composites = attributions.composite(&top, &images.ones_like(), &images);
        assert_eq!(composites.dims(), [3, 3, 2, 2]);
        let values: Vec<f32> = composites.into_data().iter::<f32>().collect();
        assert_eq!(values[..4], [0.5, 1.0, 1.0, 0.5], "of image 1, by map 0");
        assert_eq!(values[12..16], [1.0, 0.0, 0.0, 0.0], "of image 0, by map 1");
        assert_eq!(values[24..], [1.0; 12]);
    }

    #[test]
    fn constant_maps_stay_constant_and_maps_that_are_not_finite_become_zeros() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.0; 15], [3, 5]));
        let maps = [map(&[0.3; 4], [2, 2]), map(&[f32::NAN, 1.0, 0.0, 0.5], [2, 2])];
        let attributions = MetricInput::for_images(&batch, Tensor::cat(maps.to_vec(), 0), vec![0, 0]).unwrap();
        assert_eq!(attributions.finite(), [true, false]);
        let maps: Vec<&[f32]> = attributions.maps().collect();
        assert_eq!(maps, [&[0.3; 15][..], &[0.0; 15]]);
        assert_eq!(attributions.ranking(0), (0..15).collect::<Vec<u32>>());
    }

    #[test]
    fn maps_of_another_number_or_image_are_refused() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.0; 4], [2, 2]));
        let problem = |shape, images| {
            let maps = Tensor::zeros(shape, &Device::default());
            MetricInput::for_images(&batch, maps, images).unwrap_err().to_string()
        };
        assert!(problem([1, 2, 2, 2], vec![0]).contains("[1, 2, 2, 2], expected [1, 1, h, w]"));
        assert!(problem([2, 1, 2, 2], vec![0]).contains("expected [1, 1, h, w]"));
        assert!(problem([1, 1, 2, 2], vec![1]).contains("is 1, expected below 1"));
    }
}
