//! One batch of images on its way to a device.

use burn::tensor::{Device, Tensor, TensorData};
use explainer_zoo::image::{Crop, Pixels};

use super::{Broken, DataError};

/// Images of one training or validation step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Its number since the start of the run: a run that resumes behind this batch starts at `step + 1`.
    pub step: usize,
    /// The pass over the set that it belongs to, from 0.
    pub epoch: usize,
    /// `[B, 3, height, width]`, row-major, RGB in 0..=1.
    pub pixels: Vec<f32>,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// The images' numbers in the set.
    pub indices: Vec<usize>,
    /// How each was cropped.
    pub crops: Vec<Crop>,
    /// Their labelled classes, where the set has labels.
    pub classes: Vec<Option<usize>>,
    /// Images met for the first time that could not be loaded and are therefore missing here; each deserves a warning.
    pub broken: Vec<Broken>,
}

impl Batch {
    /// Number of images: the batch size less what was broken, and what is left over at the end of an epoch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether it has no image; a loader never yields such a batch.
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
