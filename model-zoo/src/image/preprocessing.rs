//! Preprocessing: from an upright RGB image to the input of a backbone.

use burn::tensor::{Device, Tensor, TensorData};
use explainer_kernels::{planes, resize};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{ImageError, Pixels};

/// The interpolation of the resize; both are antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle filter (torchvision's and PIL's `bilinear` with antialiasing).
    #[default]
    Bilinear,
    /// Catmull-Rom (PIL's `bicubic`).
    Bicubic,
}

impl From<Filter> for explainer_kernels::Filter {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Bilinear => Self::Bilinear,
            Filter::Bicubic => Self::Bicubic,
        }
    }
}

/// The position of the square crop in the resized image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Crop {
    /// The centre, for validation.
    #[default]
    Centre,
    /// A given position, for training.
    At {
        /// Fraction of the free rows above the crop, in `0.0..1.0`: a uniform fraction makes all offsets equally likely.
        top: f32,
        /// Fraction of the free columns left of the crop, in `0.0..1.0`.
        left: f32,
        /// Whether the crop is mirrored left to right.
        flip: bool,
    },
}

/// The preprocessing of a backbone: resize, crop, mean and standard deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Length of the short side after resizing, in pixels.
    pub resize: usize,
    /// Side of the square crop, in pixels.
    pub crop: usize,
    /// Interpolation of the resize.
    pub filter: Filter,
    /// Mean of each channel, for values in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, for values in 0..=1.
    pub std: [f32; 3],
}

/// The map from points of an image to its crop: x becomes `x * scale[0] - offset[0]`, y `y * scale[1] - offset[1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropTransform {
    /// Columns and rows of the resized image for each of the original.
    pub scale: [f64; 2],
    /// Columns and rows of the resized image before the crop.
    pub offset: [f64; 2],
}

/// The longest side of a resize, against typing errors: far above any backbone's input.
const MAX_SIDE: usize = 65_536;

impl Preprocessing {
    /// Resizes the short side, takes the centre crop and scales to 0..=1; see [`Preprocessing::apply`].
    ///
    /// # Errors
    /// As [`Preprocessing::apply`].
    pub fn centre(&self, image: &RgbImage) -> Result<Pixels, ImageError> {
        self.apply(image, Crop::Centre)
    }

    /// Resizes the short side to `resize`, takes a square of side `crop` and scales it to 0..=1.
    ///
    /// Sizes and offsets are those of torchvision: the long side becomes `floor(resize * long / short)` and the centre crop
    /// starts at `round((side - crop) / 2)`, halves to even. The resize works on 8-bit values, as in PIL.
    ///
    /// # Errors
    /// An image without pixels, or a preprocessing that is not `1 <= crop <= resize`.
    pub fn apply(&self, image: &RgbImage, crop: Crop) -> Result<Pixels, ImageError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(ImageError::NoPixels { width, height });
        }
        if self.crop == 0 || self.crop > self.resize || self.resize > MAX_SIDE {
            return Err(ImageError::Preprocessing { resize: self.resize, crop: self.crop });
        }
        let (full_width, full_height) = self.resized(width, height);
        let (top, left, flip) = match crop {
            Crop::Centre => (centre(full_height, self.crop), centre(full_width, self.crop), false),
            Crop::At { top, left, flip } => (at(top, full_height, self.crop), at(left, full_width, self.crop), flip),
        };

        let [width, height, full_width, full_height, top, left] =
            [u64::from(width), u64::from(height), full_width, full_height, top, left].map(|n| n as usize);
        let part = (left..left + self.crop, top..top + self.crop);
        let cropped = resize(image.as_raw(), (width, height), (full_width, full_height), part, self.filter.into());
        Ok(Pixels { values: planes(&cropped, self.crop, flip), height: self.crop, width: self.crop })
    }

    /// Normalises a batch `[B, 3, H, W]` of values in 0..=1: `(x - mean) / std`.
    #[must_use]
    pub fn normalise(&self, images: Tensor<4>) -> Tensor<4> {
        let device = images.device();
        (images - per_channel(self.mean, &device)) / per_channel(self.std, &device)
    }

    /// Undoes [`Preprocessing::normalise`]: `x * std + mean`.
    #[must_use]
    pub fn unnormalise(&self, images: Tensor<4>) -> Tensor<4> {
        let device = images.device();
        images * per_channel(self.std, &device) + per_channel(self.mean, &device)
    }

    /// Whether the values are valid: `1 <= crop <= resize <= 65536`, finite numbers, standard
    /// deviations above 0.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        (1..=self.resize).contains(&self.crop) && self.resize <= MAX_SIDE && finite && self.std.iter().all(|v| *v > 0.0)
    }

    /// This size and crop with the mean and standard deviation of `other`: the same pixels for another backbone.
    #[must_use]
    pub fn normalised_as(&self, other: &Self) -> Self {
        Self { mean: other.mean, std: other.std, ..self.clone() }
    }

    /// The map from points of an upright image of `width` x `height` pixels, at least one each, to its centre crop.
    #[must_use]
    pub fn placement(&self, width: u32, height: u32) -> CropTransform {
        let (width, height) = (width.max(1), height.max(1));
        let (full_width, full_height) = self.resized(width, height);
        let scale = [full_width as f64 / f64::from(width), full_height as f64 / f64::from(height)];
        let offset = [full_width, full_height].map(|side| ((side as f64 - self.crop as f64) / 2.0).round_ties_even());
        CropTransform { scale, offset }
    }

    /// Width and height of the whole image after resizing.
    fn resized(&self, width: u32, height: u32) -> (u64, u64) {
        let (width, height, side) = (u64::from(width), u64::from(height), self.resize as u64);
        if width <= height { (side, side * height / width) } else { (side * width / height, side) }
    }
}

/// Offset of a centre crop, rounded as Python's `round` does.
fn centre(side: u64, crop: usize) -> u64 {
    ((side - crop as u64) as f64 / 2.0).round_ties_even() as u64
}

/// Offset of a crop that leaves `fraction` of the free pixels before it; every offset from 0 to `side - crop` can occur.
fn at(fraction: f32, side: u64, crop: usize) -> u64 {
    let free = side - crop as u64;
    ((f64::from(fraction) * (free + 1) as f64) as u64).min(free)
}

fn per_channel(values: [f32; 3], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), device)
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;

    fn preprocessing(resize: usize, crop: usize, filter: Filter) -> Preprocessing {
        Preprocessing { resize, crop, filter, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    fn pattern(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)).wrapping_mul(x ^ y ^ 977);
            Rgb([(value >> 7) as u8, (x * 5) as u8, (y * 3) as u8])
        })
    }

    /// The plain way: resize everything, then crop.
    fn resize_then_crop(image: &RgbImage, p: &Preprocessing, top: usize, left: usize) -> Vec<f32> {
        let (width, height) = p.resized(image.width(), image.height());
        let (width, height) = (width as usize, height as usize);
        let size = (image.width() as usize, image.height() as usize);
        let full = resize(image.as_raw(), size, (width, height), (0..width, 0..height), p.filter.into());
        let mut values = Vec::new();
        for channel in 0..3 {
            for row in top..top + p.crop {
                for column in left..left + p.crop {
                    values.push(f32::from(full[3 * (row * width + column) + channel]) / 255.0);
                }
            }
        }
        values
    }

    #[test]
    fn points_of_a_photograph_find_their_place_in_the_crop() {
        let preprocessing =
            Preprocessing { resize: 4, crop: 2, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] };
        // 16 x 8 becomes 8 x 4; the crop is rows 1..3, columns 3..5: a pixel of the crop is 2 x 2 of the photograph.
        let placement = preprocessing.placement(16, 8);
        assert_eq!(placement, CropTransform { scale: [0.5, 0.5], offset: [3.0, 1.0] });
        let photo = RgbImage::from_fn(16, 8, |x, y| Rgb(if x == 8 && y == 4 { [255; 3] } else { [0; 3] }));
        let crop = preprocessing.centre(&photo).unwrap();
        let brightest = (0..4).max_by(|a, b| crop.values[*a].total_cmp(&crop.values[*b])).unwrap();
        let at = |point: f64, axis: usize| (point * placement.scale[axis] - placement.offset[axis]) as usize;
        assert_eq!(brightest, at(4.5, 1) * 2 + at(8.5, 0));
    }

    #[test]
    fn the_centre_crop_is_a_window_of_the_resized_image() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            // (size, first row and column of the crop)
            for (width, height, top, left) in [(61, 40, 2, 10), (40, 61, 10, 2), (20, 20, 2, 2), (32, 32, 2, 2)] {
                let (image, p) = (pattern(width, height), preprocessing(32, 28, filter));
                let found = p.centre(&image).unwrap().values;
                assert_eq!(found, resize_then_crop(&image, &p, top, left), "{filter:?} {width} x {height}");
            }
        }
    }

    #[test]
    fn sizes_and_offsets_are_torchvisions() {
        let p = preprocessing(256, 224, Filter::Bilinear);
        assert_eq!(p.resized(500, 375), (341, 256)); // int(256 * 500 / 375) = int(341.33)
        assert_eq!(p.resized(375, 500), (256, 341));
        // Python: round(58.5) = 58, round(59.5) = 60
        assert_eq!((centre(341, 224), centre(343, 224), centre(256, 224)), (58, 60, 16));
        assert_eq!((at(0.0, 256, 224), at(0.999, 256, 224), at(1.0, 256, 224), at(0.5, 224, 224)), (0, 32, 32, 0));
    }

    #[test]
    fn a_crop_at_a_place_and_its_mirror_image() {
        let (image, p) = (pattern(50, 32), preprocessing(32, 16, Filter::Bilinear));
        let plain = p.apply(&image, Crop::At { top: 0.99, left: 0.0, flip: false }).unwrap();
        assert_eq!(plain.values, resize_then_crop(&image, &p, 16, 0));
        let mirrored = p.apply(&image, Crop::At { top: 0.99, left: 0.0, flip: true }).unwrap();
        for (row, mirror) in plain.values.chunks(16).zip(mirrored.values.chunks(16)) {
            assert!(row.iter().eq(mirror.iter().rev()));
        }
    }

    #[test]
    fn one_pixel_and_thin_strips_resize() {
        let p = preprocessing(256, 224, Filter::Bicubic);
        let dot = p.centre(&RgbImage::from_pixel(1, 1, Rgb([51, 102, 255]))).unwrap();
        assert_eq!((dot.values.len(), dot.values[0], dot.values[224 * 224 * 2]), (3 * 224 * 224, 0.2, 1.0));
        let strip = p.apply(&pattern(2, 40), Crop::At { top: 1.0, left: 1.0, flip: true }).unwrap();
        assert_eq!((strip.width, strip.height), (224, 224));
    }

    #[test]
    fn a_strip_is_as_cheap_as_any_other_image() {
        for (width, height) in [(1, 20_000), (20_000, 1)] {
            let pixels = preprocessing(256, 224, Filter::Bicubic).centre(&pattern(width, height)).unwrap();
            assert_eq!((pixels.width, pixels.height), (224, 224));
        }
    }

    #[test]
    fn senseless_sizes_are_errors() {
        let image = pattern(4, 4);
        for (resize, crop) in [(200, 224), (0, 0), (224, 0), (usize::MAX, 224)] {
            let error = preprocessing(resize, crop, Filter::Bilinear).centre(&image).unwrap_err();
            assert!(matches!(error, ImageError::Preprocessing { .. }), "{error}");
        }
        let empty = preprocessing(8, 8, Filter::Bilinear).centre(&RgbImage::new(0, 5)).unwrap_err();
        assert!(matches!(empty, ImageError::NoPixels { .. }), "{empty}");
    }

    #[test]
    fn normalising_and_back() {
        let p = preprocessing(8, 8, Filter::Bilinear);
        let images = Pixels::to_tensor(&[p.centre(&pattern(9, 11)).unwrap()], &Device::default()).unwrap();
        let normalised: Vec<f32> = p.normalise(images.clone()).into_data().try_into_vec().unwrap();
        let back: Vec<f32> = p.unnormalise(p.normalise(images.clone())).into_data().try_into_vec().unwrap();
        let images: Vec<f32> = images.into_data().try_into_vec().unwrap();
        assert!((normalised[64] - (images[64] - 0.456) / 0.224).abs() < 1e-6, "the second channel starts at 64");
        assert!(images.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_size_gives_a_crop_in_range(
            width in 1..90_u32, height in 1..90_u32, top in 0.0..=1.0_f32, left in 0.0..=1.0_f32, flip: bool,
        ) {
            let p = preprocessing(20, 17, Filter::Bicubic);
            let pixels = p.apply(&pattern(width, height), Crop::At { top, left, flip }).unwrap();
            prop_assert_eq!(pixels.values.len(), 3 * 17 * 17);
            prop_assert!(pixels.values.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}
