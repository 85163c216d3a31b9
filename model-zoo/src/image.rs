//! Images to pixels: decode, orient, resize, crop, normalise.

mod blur;
mod decode;
mod preprocessing;

use burn::tensor::{Device, Tensor, TensorData};
use thiserror::Error;

pub use blur::gaussian_blur;
pub use decode::{EXTENSIONS, MAX_DECODED_BYTES, decode, decode_bytes, dimensions, dimensions_of};
pub use preprocessing::{Crop, CropTransform, Filter, Preprocessing};

/// An RGB image in memory, channels first: `[3, height, width]`, every value in 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Row-major values, `3 * height * width` of them, channel after channel (R, G, B).
    pub values: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Pixels {
    /// Stacks images of one size into a batch `[B, 3, H, W]` with values in 0..=1.
    ///
    /// # Errors
    /// [`ImageError::Stack`] if there is no image, if sizes differ, or if one does not hold `3 * H * W` values.
    pub fn to_tensor(images: &[Self], device: &Device) -> Result<Tensor<4>, ImageError> {
        let (height, width) = images.first().map_or((0, 0), |first| (first.height, first.width));
        let mut values = Vec::with_capacity(images.len() * 3 * height * width);
        for (index, image) in images.iter().enumerate() {
            if (image.height, image.width) != (height, width) || image.values.len() != 3 * height * width {
                return Err(ImageError::Stack(format!(
                    "image {index} is {} x {} with {} values, image 0 is {height} x {width}",
                    image.height,
                    image.width,
                    image.values.len(),
                )));
            }
            values.extend_from_slice(&image.values);
        }
        if values.is_empty() {
            return Err(ImageError::Stack("it has no pixels".into()));
        }
        Ok(Tensor::from_data(TensorData::new(values, [images.len(), 3, height, width]), device))
    }
}

/// Why an image cannot be decoded or preprocessed.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file could not be read at all.
    #[error("{name}: cannot read the image: {source}")]
    Read {
        /// The file.
        name: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file holds nothing.
    #[error("{name}: the file is empty (0 bytes); remove it or fetch it again")]
    Empty {
        /// The file.
        name: String,
    },
    /// The JPEG is damaged.
    #[error("{name}: the JPEG is damaged; remove it or fetch it again")]
    Jpeg {
        /// The file.
        name: String,
    },
    /// Another file stands in the place of the image.
    #[error("{name}: not an image but {what}")]
    StandIn {
        /// The file.
        name: String,
        /// What it is, and the remedy.
        what: String,
    },
    /// The content is none of the formats that are read.
    #[error("{name}: not a JPEG, PNG or WebP image by its content; convert it or remove it")]
    Format {
        /// The file.
        name: String,
    },
    /// The header claims more than [`MAX_DECODED_BYTES`].
    #[error(
        "{name}: {width} x {height} pixels would take {mib} MiB decoded, more than the limit of {limit} MiB; \
         shrink the image or remove it",
        mib = bytes >> 20, limit = MAX_DECODED_BYTES >> 20
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Columns that the header claims.
        width: u32,
        /// Rows that the header claims.
        height: u32,
        /// Bytes that decoding would take.
        bytes: u64,
    },
    /// The file stops before the image is complete.
    #[error("{name}: the JPEG file is cut off: its last pixels are missing; fetch it again or remove it")]
    Truncated {
        /// The file.
        name: String,
    },
    /// The decoder refused the content.
    #[error("{name}: broken image: {source}; fetch it again or remove it")]
    Decode {
        /// The file.
        name: String,
        /// The decoder's reason.
        source: Box<image::ImageError>,
    },
    /// The image has no pixels.
    #[error("cannot resize an image of {width} x {height} pixels: both sides must be at least 1")]
    NoPixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The preprocessing is invalid.
    #[error("preprocessing: crop is {crop} and resize is {resize}, expected 1 <= crop <= resize <= 65536")]
    Preprocessing {
        /// Short side after resizing.
        resize: usize,
        /// Side of the crop.
        crop: usize,
    },
    /// The images do not make a batch.
    #[error("cannot stack images into a batch: {0}; all must be RGB of one size")]
    Stack(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: f32, height: usize, width: usize) -> Pixels {
        Pixels { values: vec![value; 3 * height * width], height, width }
    }

    #[test]
    fn stacking_keeps_the_order_and_refuses_mixed_sizes() {
        let device = Device::default();
        let batch = Pixels::to_tensor(&[flat(0.25, 2, 3), flat(0.75, 2, 3)], &device).unwrap();
        assert_eq!(batch.dims(), [2, 3, 2, 3]);
        let values: Vec<f32> = batch.into_data().try_into_vec().unwrap();
        assert_eq!((values[0], values[17], values[18], values[35]), (0.25, 0.25, 0.75, 0.75));

        let mixed = Pixels::to_tensor(&[flat(0.0, 2, 3), flat(0.0, 3, 2)], &device).unwrap_err();
        assert!(mixed.to_string().contains("image 1 is 3 x 2"), "{mixed}");
        assert!(Pixels::to_tensor(&[], &device).is_err());
    }
}
