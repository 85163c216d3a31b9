//! One batch of images.

use burn::tensor::{Device, Tensor, TensorData};
use explainer_zoo::image::{Crop, Pixels};

use super::{BrokenImage, DataError};

/// The images of one training or validation step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Index of the batch since the start of the run: a run that resumes after this batch starts at `step + 1`.
    pub step: usize,
    /// The epoch, from 0.
    pub epoch: usize,
    /// `[B, 3, height, width]`, row-major, RGB in 0..=1.
    pub pixels: Vec<f32>,
    /// Height of each image, in pixels.
    pub height: usize,
    /// Width of each image, in pixels.
    pub width: usize,
    /// The indices of the images in the set.
    pub indices: Vec<usize>,
    /// The crop of each image.
    pub crops: Vec<Crop>,
    /// The labelled class of each image, if the set has labels.
    pub classes: Vec<Option<usize>>,
    /// BrokenImage images that are missing from this batch or from one before it, and that were not reported yet.
    pub broken: Vec<BrokenImage>,
}

impl Batch {
    /// Number of images `B`: the batch size, less the broken images; the last batch of an epoch may be smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the batch has no image; a loader of a single process never yields such a batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The images as a tensor `[B, 3, H, W]` with values in 0..=1.
    #[must_use]
    pub fn images(&self, device: &Device) -> Tensor<4> {
        let shape = [self.len(), 3, self.height, self.width];
        Tensor::from_data(TensorData::new(self.pixels.clone(), shape), device)
    }

    /// Adds an image; `name` is for the error if its size is not that of the images before.
    pub(super) fn push(
        &mut self,
        image: &Pixels,
        (index, crop): (usize, Crop),
        class: Option<usize>,
        name: impl FnOnce() -> String,
    ) -> Result<(), DataError> {
        if self.is_empty() {
            (self.height, self.width) = (image.height, image.width);
        }
        let found = image.values.len();
        if (image.height, image.width) != (self.height, self.width) || found != 3 * self.height * self.width {
            return Err(DataError::Size { name: name(), found, height: self.height, width: self.width });
        }
        self.pixels.extend_from_slice(&image.values);
        self.indices.push(index);
        self.crops.push(crop);
        self.classes.push(class);
        Ok(())
    }
}
