//! JPEG, PNG and WebP files to upright 8-bit RGB.

#[cfg(test)]
mod tests;

use std::io::{BufRead, Cursor, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::ImageError;
use crate::stand_in::stand_in;

/// File name extensions (lower case) of the formats that [`decode`] reads.
pub const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// The most bytes that one decoded image may take: 512 MiB, 178.9 million pixels of 8-bit RGB.
///
/// PIL suspects a decompression bomb at the same size. Every pixel counts at least 3 bytes, and more if the file has alpha
/// or 16 bits.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Decodes an image from a file; see [`decode_bytes`].
///
/// # Errors
/// An [`ImageError`] that names the file.
pub fn decode(path: &Path) -> Result<RgbImage, ImageError> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => decode_bytes(&bytes, &name),
        Err(source) => Err(ImageError::Read { name, source }),
    }
}

/// Width and height of an upright image, from the file's header.
///
/// # Errors
/// A file that cannot be read, or is no image by its beginning.
pub fn dimensions(path: &Path) -> Result<[u32; 2], ImageError> {
    let name = path.display().to_string();
    let reader = ImageReader::open(path).map_err(|source| ImageError::Read { name: name.clone(), source })?;
    upright_size(reader, &name)
}

/// The same of an image in memory; errors call it `name`.
///
/// # Errors
/// Bytes that are no image by their beginning.
pub fn dimensions_of(bytes: &[u8], name: &str) -> Result<[u32; 2], ImageError> {
    upright_size(ImageReader::new(Cursor::new(bytes)), name)
}

fn upright_size<R: BufRead + Seek>(reader: ImageReader<R>, name: &str) -> Result<[u32; 2], ImageError> {
    let unreadable = |source| ImageError::Read { name: name.into(), source };
    let reader = reader.with_guessed_format().map_err(unreadable)?;
    let broken = |source| ImageError::Decode { name: name.into(), source: Box::new(source) };
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    Ok(match orientation(&mut decoder) {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            [height, width]
        }
        _ => [width, height],
    })
}

/// Decodes an image in memory; errors call it `name`.
///
/// The format is known by the content, whatever the file is called. The EXIF orientation is applied. Grey and CMYK
/// become RGB, 16 bits are scaled to 8, and alpha is *dropped*, not composited (as PIL's `convert("RGB")` does).
///
/// # Errors
/// Content that is empty, of another format, cut off, broken, or larger than [`MAX_DECODED_BYTES`]; the size is
/// checked before anything of that size is allocated.
pub fn decode_bytes(bytes: &[u8], name: &str) -> Result<RgbImage, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty { name: name.into() });
    }
    let broken = |source| ImageError::Decode { name: name.into(), source: Box::new(source) };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|source| ImageError::Read { name: name.into(), source })?;
    let Some(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) = reader.format() else {
        return Err(match stand_in(bytes) {
            Some(what) => ImageError::StandIn { name: name.into(), what },
            None => ImageError::Format { name: name.into() },
        });
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);

    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let pixel_bytes = u64::from(decoder.color_type().bytes_per_pixel().max(3));
    let decoded = u64::from(width).saturating_mul(u64::from(height)).saturating_mul(pixel_bytes);
    if decoded > MAX_DECODED_BYTES {
        return Err(ImageError::TooLarge { name: name.into(), width, height, bytes: decoded });
    }
    let orientation = orientation(&mut decoder);
    let image = match format {
        // The decoder fills missing parts of a JPEG with grey: half an image would be explained.
        ImageFormat::Jpeg if !jpeg_has_end(bytes) => {
            let whole = whole_without_end(bytes, (width, height));
            Some(whole.ok_or_else(|| ImageError::Truncated { name: name.into() })?)
        }
        ImageFormat::Jpeg => libjpeg(bytes, (width, height)).map_err(|()| ImageError::Jpeg { name: name.into() })?,
        _ => None,
    };
    let image = match image {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(broken)?.into_rgb8(),
    };
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The orientation by the file's EXIF data; an image with unreadable EXIF data is taken as it is.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    // Some writers put the marker of a JPEG's segment before the data in PNG and WebP files too.
    let prefixed = match decoder.exif_metadata() {
        Ok(Some(exif)) => exif.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk),
        _ => None,
    };
    prefixed.or_else(|| decoder.orientation().ok()).unwrap_or(Orientation::NoTransforms)
}

/// The image of a JPEG without an end-of-image marker, such as one with a camera's own trailer in its place; `None` if
/// pixels are missing.
///
/// The file is decoded with two different continuations: missing pixels come out differently, as the decoder takes them
/// from the continuation.
fn whole_without_end(bytes: &[u8], size: (u32, u32)) -> Option<RgbImage> {
    const END: [u8; 2] = [0xFF, 0xD9];
    let [one, other] = [Vec::new(), vec![0x55; 4096]].map(|continuation| {
        let whole = [bytes, &continuation, &END].concat();
        libjpeg(&whole, size).ok().flatten()
    });
    one.filter(|one| Some(one) == other.as_ref())
}

/// Decodes a JPEG as libjpeg-turbo does, bit for bit as PIL, torchvision and OpenCV do: other decoders differ by up to
/// four grey levels, which shifts whole images by a tenth of a level. `None` for CMYK, which libjpeg leaves to others.
///
/// An error is libjpeg's; it arrives as an unwinding, without a message.
fn libjpeg(bytes: &[u8], (width, height): (u32, u32)) -> Result<Option<RgbImage>, ()> {
    use mozjpeg::{ColorSpace, Decompress};
    let decode = || -> std::io::Result<Option<Vec<[u8; 3]>>> {
        let decoder = Decompress::new_mem(bytes)?;
        if matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK) {
            return Ok(None);
        }
        decoder.rgb()?.read_scanlines().map(Some)
    };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(Some(pixels))) => RgbImage::from_raw(width, height, pixels.as_flattened().to_vec()).map(Some).ok_or(()),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// Whether an end-of-image marker follows the first scan.
///
/// The segments before the scan are stepped over by their lengths: an EXIF thumbnail has an end marker of its own.
/// Within a scan the bytes FF D9 can only be the marker, since FF is stuffed.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2; // behind the start-of-image marker
    loop {
        match bytes.get(at..at + 4) {
            Some([0xFF, 0xFF, ..]) => at += 1, // a fill byte
            Some([0xFF, marker, high, low]) => {
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if *marker == START_OF_SCAN {
                    break;
                }
            }
            Some(_) => at += 1, // stray bytes between segments, which decoders skip as well
            None => return false,
        }
    }
    bytes.get(at..).is_some_and(|scans| scans.windows(2).any(|pair| pair == [0xFF, 0xD9]))
}
