//! Images to explain, and their heat maps.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::ExplainError;
use super::heat_map::{HeatMap, HeatMapError};
use super::targets::Targets;
use crate::image::Preprocessing;

/// What explanations cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Forward passes of the classifier.
    pub forward: u64,
    /// Its backward passes.
    pub backward: u64,
    /// Forward passes of a second classifier (P-TAME's auxiliary, BEE's context).
    pub second: u64,
    /// Seconds that the explanations took.
    pub seconds: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.backward += other.backward;
        self.second += other.second;
        self.seconds += other.seconds;
    }
}

/// B images to explain.
#[derive(Clone, Debug)]
pub struct ExplainBatch {
    /// Pixels in 0..=1, resized and cropped by the classifier's preprocessing, `[B,3,H,W]`.
    pub pixels: Tensor<4>,
    /// The same images, normalised for the explained classifier.
    pub images: Tensor<4>,
}

impl ExplainBatch {
    /// From pixels `[B,3,H,W]` in 0..=1.
    pub fn from_pixels(pixels: Tensor<4>, preprocessing: &Preprocessing) -> Self {
        Self { images: preprocessing.normalise(pixels.clone()), pixels }
    }

    /// From images `[B,3,H,W]` that are normalised already.
    pub fn from_normalised(images: Tensor<4>, preprocessing: &Preprocessing) -> Self {
        Self { pixels: preprocessing.unnormalise(images.clone()), images }
    }

    /// Number of images B.
    pub fn len(&self) -> usize {
        self.images.dims()[0]
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image `index` alone.
    #[must_use]
    pub fn image(&self, index: usize) -> Self {
        let one = |tensor: &Tensor<4>| tensor.clone().narrow(0, index, 1);
        Self { pixels: one(&self.pixels), images: one(&self.images) }
    }
}

/// Heat maps of k classes of each of B images.
#[derive(Clone, Debug)]
pub struct Explanations {
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// Logits of the classifier, `[B,K]`.
    pub logits: Tensor<2>,
    /// The explained classes, `B` lists of `k`.
    pub classes: Vec<Vec<usize>>,
    /// Their softmax probabilities in 0..=1, in the same order.
    pub probabilities: Vec<Vec<f32>>,
    /// Heat maps `[B,k,h,w]` in 0..=1.
    pub maps: Tensor<4>,
    /// Values of [`Explain::details`](super::Explain::details) of each map, image by image; empty where there are none.
    pub details: Vec<Vec<String>>,
    /// What the explanations cost, counted while they were made.
    pub cost: Cost,
}

/// The heat map of one class of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The class.
    pub class: usize,
    /// Its softmax probability in 0..=1.
    pub probability: f32,
    /// Its heat map `[h,w]` in 0..=1, at the explainer's resolution.
    pub map: HeatMap,
    /// Values of [`Explain::details`](super::Explain::details).
    pub details: Vec<String>,
}

impl Explanations {
    /// Explains `targets` of a batch whose logits `[B,K]` are known; `maps` returns the maps `[B,k,h,w]` of the classes of
    /// each image, and their cost.
    ///
    /// # Errors
    /// [`ExplainError::NoClass`] and [`ExplainError::Targets`] for classes that do not fit, and the errors of `maps`.
    pub fn of(
        batch: &ExplainBatch,
        logits: Tensor<2>,
        targets: Targets<'_>,
        maps: impl FnOnce(&[Vec<usize>]) -> Result<(Tensor<4>, Cost), ExplainError>,
    ) -> Result<Self, ExplainError> {
        let (classes, probabilities) = targets.resolve(logits.clone())?;
        let (maps, cost) = maps(&classes)?;
        let images = batch.images.clone();
        Ok(Self { images, logits, classes, probabilities, maps, details: Vec::new(), cost })
    }

    /// The maps on the host: for each image one map a class, in the order of the classes.
    ///
    /// # Errors
    /// [`HeatMapError`] for maps without a single cell.
    pub fn per_image(&self) -> Result<Vec<Vec<Explanation>>, HeatMapError> {
        let [_, _, height, width] = self.maps.dims();
        let values: Vec<f32> = self.maps.to_data().iter::<f32>().collect();
        let mut maps = values.chunks((height * width).max(1));
        let mut details = self.details.iter().cloned();
        let image = |(classes, probabilities): (&Vec<usize>, &Vec<f32>)| {
            let maps = maps.by_ref().take(classes.len());
            let class_map = |((&class, &probability), values): ((&usize, &f32), &[f32])| {
                let map = HeatMap::new(height, width, values.to_vec())?;
                Ok(Explanation { class, probability, map, details: details.next().unwrap_or_default() })
            };
            classes.iter().zip(probabilities).zip(maps).map(class_map).collect::<Result<Vec<_>, HeatMapError>>()
        };
        self.classes.iter().zip(&self.probabilities).map(image).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn maps_come_to_the_host_with_their_class() {
        let device = Device::default();
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        let explained = Explanations {
            images: Tensor::zeros([2, 3, 4, 4], &device),
            logits: Tensor::zeros([2, 9], &device),
            classes: vec![vec![3, 1], vec![0, 8]],
            probabilities: vec![vec![0.5, 0.25], vec![0.75, 0.125]],
            maps: Tensor::from_data(TensorData::new(values, [2, 2, 1, 2]), &device),
            details: ["a", "b", "c"].map(|text| vec![text.to_owned()]).to_vec(),
            cost: Cost::default(),
        };
        let images = explained.per_image().unwrap();
        let map = HeatMap::new(1, 2, vec![4.0, 5.0]).unwrap();
        assert_eq!(images[1][0], Explanation { class: 0, probability: 0.75, map, details: vec!["c".into()] });
        assert_eq!((images[0][1].class, images[0][1].map.values()), (1, &[2.0, 3.0][..]));
    }
}
