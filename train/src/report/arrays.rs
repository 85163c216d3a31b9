//! Writes maps and images to files: 16-bit PNG, PNG, NumPy.

use std::io::Write;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::ReportError;
use explainer_zoo::explain::HeatMap;
use explainer_zoo::files::write_atomic;

/// Writes a map as a 16-bit grey PNG: 0 is black, 1 is white (65,535), other values are clamped.
pub fn write_png16(path: &Path, map: &HeatMap) -> Result<(), ReportError> {
    let count = map.values().iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        return Err(ReportError::NotFinite { path: path.into(), count });
    }
    // The encoder takes 16-bit samples in the byte order of the machine.
    let samples =
        map.values().iter().flat_map(|value| ((65535.0 * value.clamp(0.0, 1.0)).round() as u16).to_ne_bytes());
    write_png(path, &samples.collect::<Vec<u8>>(), [map.width() as u32, map.height() as u32], ExtendedColorType::L16)
}

/// Writes an RGB image as PNG.
pub fn write_rgb(path: &Path, picture: &RgbImage) -> Result<(), ReportError> {
    write_png(path, picture.as_raw(), [picture.width(), picture.height()], ExtendedColorType::Rgb8)
}

/// Writes an `f32` array of any shape as NumPy's `.npy`, with unchanged values.
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<(), ReportError> {
    let expected = shape.iter().product();
    if values.len() != expected {
        return Err(ReportError::Shape { shape: shape.into(), expected, found: values.len() });
    }
    let header = npy_header(shape);
    write_atomic(path, |out| {
        out.write_all(&header)?;
        values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })?;
    Ok(())
}

/// The header of a file of little-endian f32 in row-major order: version 1.0 of NumPy's `lib.format`. Its length is a
/// multiple of 64, so that the values can be memory-mapped.
fn npy_header(shape: &[usize]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side},")).collect();
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let before = b"\x93NUMPY\x01\x00".len() + size_of::<u16>();
    let length = (before + text.len() + 1).next_multiple_of(64) - before;
    let padded = format!("{text:<width$}\n", width = length - 1);
    [&b"\x93NUMPY\x01\x00"[..], &(length as u16).to_le_bytes(), padded.as_bytes()].concat()
}

fn write_png(
    path: &Path,
    samples: &[u8],
    [width, height]: [u32; 2],
    colour: ExtendedColorType,
) -> Result<(), ReportError> {
    let mut encoded = Vec::new();
    PngEncoder::new(&mut encoded)
        .write_image(samples, width, height, colour)
        .map_err(|source| ReportError::Encode { path: path.into(), source })?;
    write_atomic(path, |out| out.write_all(&encoded))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::DynamicImage;

    use super::*;

    #[test]
    fn png_round_trip_keeps_sixteen_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        write_png16(&path, &HeatMap::new(2, 3, vec![0.0, 0.25, 1.0, 0.123, -1.0, 2.0]).unwrap()).unwrap();
        let DynamicImage::ImageLuma16(read) = image::open(&path).unwrap() else { panic!("not 16-bit grey") };
        assert_eq!(read.dimensions(), (3, 2));
        assert_eq!(read.into_raw(), [0, 16384, 65535, 8061, 0, 65535]);
    }

    #[test]
    fn a_broken_map_is_refused_with_the_file_and_the_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let map = HeatMap::new(1, 3, vec![0.0, f32::NAN, f32::INFINITY]).unwrap();
        let message = write_png16(&path, &map).unwrap_err().to_string();
        assert!(message.contains("map.png") && message.contains('2'), "{message}");
        assert!(!path.exists());
    }

    #[test]
    fn npy_round_trip_keeps_shape_and_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maps.npy");
        let values = [0.1, f32::MIN_POSITIVE, -3.5, f32::INFINITY, 0.0, 7.25];
        write_npy(&path, &[1, 2, 3], &values).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = npyz::NpyFile::new(&bytes[..]).unwrap();
        assert_eq!((read.shape(), read.order()), (&[1, 2, 3][..], npyz::Order::C));
        assert_eq!(read.into_vec::<f32>().unwrap(), values);
    }

    #[test]
    fn npy_refuses_values_that_do_not_fill_the_shape() {
        let message = write_npy(Path::new("unused.npy"), &[2, 2], &[0.0; 3]).unwrap_err().to_string();
        assert!(message.contains("[2, 2]") && message.contains('3'), "{message}");
    }

    #[test]
    fn rgb_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let picture = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 200]));
        write_rgb(&path, &picture).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8(), picture);
    }
}
