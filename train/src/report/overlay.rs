//! Heat maps over images.

use explainer_zoo::image::Pixels;
use image::{Rgb, RgbImage};

use super::colormap::heat;
use explainer_zoo::explain::HeatMap;

/// Default opacity of the map's colours in an overlay.
pub const OPACITY: f32 = 0.55;

/// The image blended with the map's colours. `opacity` (0..=1) is the weight of the colours, [`OPACITY`] by default.
///
/// The map (0..=1) is resampled bilinearly to the image.
#[must_use]
pub fn overlay(image: &RgbImage, map: &HeatMap, opacity: f32) -> RgbImage {
    let opacity = opacity.clamp(0.0, 1.0);
    combine(image, map, |pixel, value| {
        let colour = heat(value);
        std::array::from_fn(|c| f32::from(pixel[c]) + opacity * (f32::from(colour[c]) - f32::from(pixel[c])))
    })
}

/// The map in colours without the image, resampled bilinearly to `height` x `width`.
#[must_use]
pub fn colours(map: &HeatMap, height: u32, width: u32) -> RgbImage {
    let map = map.resized(height as usize, width as usize);
    RgbImage::from_fn(width, height, |x, y| Rgb(heat(map.values()[(y * width + x) as usize])))
}

/// The image multiplied by the map (0..=1): the masked image.
#[must_use]
pub fn masked(image: &RgbImage, map: &HeatMap) -> RgbImage {
    combine(image, map, |pixel, value| pixel.map(|c| f32::from(c) * value.clamp(0.0, 1.0)))
}

/// Converts an image to eight bits a channel.
#[must_use]
pub fn picture(pixels: &Pixels) -> RgbImage {
    let plane = pixels.height * pixels.width;
    RgbImage::from_fn(pixels.width as u32, pixels.height as u32, |x, y| {
        let i = y as usize * pixels.width + x as usize;
        Rgb([0, 1, 2].map(|c| quantised(255.0 * pixels.values[c * plane + i])))
    })
}

fn combine(image: &RgbImage, map: &HeatMap, pixel: impl Fn([u8; 3], f32) -> [f32; 3]) -> RgbImage {
    let (width, height) = image.dimensions();
    let map = map.resized(height as usize, width as usize);
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(pixel(image.get_pixel(x, y).0, map.values()[(y * width + x) as usize]).map(quantised))
    })
}

fn quantised(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(value: u8) -> RgbImage {
        RgbImage::from_pixel(4, 2, Rgb([value; 3]))
    }

    #[test]
    fn opacity_goes_from_the_image_to_the_colours() {
        let map = HeatMap::new(1, 2, vec![0.0, 1.0]).unwrap();
        assert_eq!(overlay(&grey(77), &map, 0.0), grey(77));
        assert_eq!(overlay(&grey(77), &map, 1.0), colours(&map, 2, 4));
        let half = overlay(&grey(100), &map, 0.5);
        assert_eq!(half.get_pixel(0, 1).0, [50, 50, 52]);
        assert_eq!(half.get_pixel(3, 0).0, [176, 178, 132]);
    }

    #[test]
    fn masking_keeps_what_the_map_shows() {
        let map = HeatMap::new(1, 2, vec![0.0, 1.0]).unwrap();
        let left_to_right: Vec<u8> = masked(&grey(200), &map).pixels().take(4).map(|p| p.0[1]).collect();
        assert_eq!(left_to_right, [0, 50, 150, 200]);
    }

    #[test]
    fn pictures_interleave_the_channels() {
        let values = vec![0.0, 1.0, 0.5, 0.0, 1.0, 2.0];
        let picture = picture(&Pixels { values, height: 1, width: 2 });
        assert_eq!(picture.into_raw(), [0, 128, 255, 255, 0, 255]);
    }
}
