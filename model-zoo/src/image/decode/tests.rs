use image::{GrayAlphaImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// 32 x 16, left half red, right half blue.
fn red_blue() -> RgbImage {
    RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([250, 10, 10]) } else { Rgb([10, 10, 250]) })
}

fn is_red(pixel: &Rgb<u8>) -> bool {
    pixel[0] > 200 && pixel[2] < 60
}

/// A JPEG with an EXIF segment that holds nothing but an orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

/// A baseline CMYK JPEG of 32 x 32 equal pixels as Photoshop writes them (Adobe marker, inverted
/// values); for values whose bits never make the byte FF, which would need stuffing.
fn cmyk_jpeg(stored: [u8; 4]) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xEE, 0, 14];
    jpeg.extend(b"Adobe\0\x64\0\0\0\0\0");
    jpeg.extend([0xFF, 0xDB, 0, 67, 0]);
    jpeg.extend([8; 64]); // quantisation by 8: the DC coefficient is value - 128
    jpeg.extend([0xFF, 0xC0, 0, 20, 8, 0, 32, 0, 32, 4]);
    jpeg.extend((1..=4).flat_map(|component| [component, 0x11, 0]));
    jpeg.extend([0xFF, 0xC4, 0, 27, 0x00, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    jpeg.extend([0xFF, 0xC4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    jpeg.extend([0xFF, 0xDA, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits = String::new();
    for value in stored {
        let dc = i32::from(value) - 128;
        let size = 32 - dc.unsigned_abs().leading_zeros();
        let code = if dc < 0 { dc + (1 << size) - 1 } else { dc };
        bits += &format!("{size:04b}");
        if size > 0 {
            bits += &format!("{code:0width$b}", width = size as usize);
        }
        bits += "0"; // end of block
    }
    bits += &"00000".repeat(15 * 4); // 15 more blocks of each component, no different from the first
    while !bits.len().is_multiple_of(8) {
        bits += "1";
    }
    jpeg.extend((0..bits.len()).step_by(8).map(|i| u8::from_str_radix(&bits[i..i + 8], 2).unwrap()));
    jpeg.extend([0xFF, 0xD9]);
    jpeg
}

/// A PNG that is nothing but a header: 8-bit grey of the given size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0D".to_vec();
    png.extend(&chunk);
    png.extend(crc32(&chunk).to_be_bytes());
    png.extend(b"\0\0\0\x01IDAT\0");
    png.extend(crc32(b"IDAT\0").to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[test]
fn the_content_tells_the_format() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let image = decode_bytes(&encode(red_blue(), format), "misnamed.txt").unwrap();
        assert_eq!(image.dimensions(), (32, 16), "{format:?}");
        assert!(is_red(image.get_pixel(4, 8)) && !is_red(image.get_pixel(28, 8)), "{format:?}");
    }
}

#[test]
fn exif_orientation_is_applied() {
    let jpeg = encode(red_blue(), ImageFormat::Jpeg);
    // (orientation, size, a pixel of the red half and one of the blue half in the upright image)
    for (orientation, size, red, blue) in [
        (1, (32, 16), (4, 8), (28, 8)),
        (2, (32, 16), (28, 8), (4, 8)),
        (3, (32, 16), (28, 8), (4, 8)),
        (6, (16, 32), (8, 4), (8, 28)),
        (8, (16, 32), (8, 28), (8, 4)),
    ] {
        let turned = with_orientation(&jpeg, orientation);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &turned).unwrap();
        assert_eq!(dimensions(file.path()).unwrap(), [size.0, size.1], "orientation {orientation}");
        let image = decode_bytes(&turned, "turned.jpg").unwrap();
        assert_eq!(image.dimensions(), size, "orientation {orientation}");
        assert!(is_red(image.get_pixel(red.0, red.1)), "orientation {orientation}");
        assert!(!is_red(image.get_pixel(blue.0, blue.1)), "orientation {orientation}");
    }
}

#[test]
fn grey_alpha_and_16_bits_become_rgb() {
    let png = |image: DynamicImage| decode_bytes(&encode(image, ImageFormat::Png), "x.png").unwrap();
    let grey16 = ImageBuffer::from_pixel(3, 2, Luma([0x8080_u16]));
    assert_eq!(png(grey16.into()).get_pixel(1, 1), &Rgb([0x80; 3]));
    let grey_alpha = GrayAlphaImage::from_pixel(3, 2, LumaA([77, 0]));
    assert_eq!(png(grey_alpha.into()).get_pixel(1, 1), &Rgb([77; 3]), "alpha is dropped, not composited");
    let alpha = RgbaImage::from_pixel(3, 2, Rgba([10, 20, 30, 0]));
    assert_eq!(png(alpha.into()).get_pixel(2, 0), &Rgb([10, 20, 30]));
    let deep = ImageBuffer::from_pixel(3, 2, Rgba([0xFFFF_u16, 0x0101, 0, 9]));
    assert_eq!(png(deep.into()).get_pixel(0, 0), &Rgb([255, 1, 0]));
    let grey = image::GrayImage::from_pixel(8, 8, Luma([90]));
    let grey = decode_bytes(&encode(grey, ImageFormat::Jpeg), "x.jpg").unwrap();
    assert!(grey.get_pixel(3, 3).0.iter().all(|value| value.abs_diff(90) <= 1));
}

#[test]
fn cmyk_becomes_rgb() {
    // Stored inverted: 255 is no ink, so RGB is the product of the colour and what black leaves, 250 / 255.
    let image = decode_bytes(&cmyk_jpeg([200, 100, 50, 250]), "print.jpg").unwrap();
    for (x, y) in [(0, 0), (4, 4), (30, 30)] {
        assert_eq!(image.get_pixel(x, y), &Rgb([196, 98, 49]));
    }
}

#[test]
fn one_pixel_is_a_photograph() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let image = decode_bytes(&encode(RgbImage::new(1, 1), format), "dot").unwrap();
        assert_eq!(image.dimensions(), (1, 1));
    }
}

#[test]
fn a_giant_is_refused_before_it_is_decoded() {
    let error = decode_bytes(&png_header(20_000, 20_000), "giant.png").unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { width: 20_000, height: 20_000, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("giant.png: 20000 x 20000 pixels") && text.contains("512 MiB"), "{text}");
    let within = decode_bytes(&png_header(100, 100), "header.png").unwrap_err();
    assert!(matches!(within, ImageError::Decode { .. }), "a header alone is cut off, not large: {within}");
}

#[test]
fn what_is_cut_off_is_an_error() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encode(red_blue(), format);
        for keep in [whole.len() / 2, whole.len() * 9 / 10, 20] {
            assert!(decode_bytes(&whole[..keep], "cut").is_err(), "{format:?}: {keep} of {} bytes", whole.len());
        }
    }
    // The thumbnail's end marker must not pass for the photograph's.
    let jpeg = encode(red_blue(), ImageFormat::Jpeg);
    let thumbnail = [&[0xFF, 0xE1], &u16::try_from(jpeg.len() + 2).unwrap().to_be_bytes()[..], &jpeg].concat();
    let whole = [&jpeg[..2], &thumbnail, &jpeg[2..]].concat();
    assert!(decode_bytes(&whole, "whole").is_ok());
    let error = decode_bytes(&whole[..whole.len() - 8], "cut.jpg").unwrap_err();
    assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
}

#[test]
fn a_jpeg_without_its_end_marker_is_read_if_no_pixel_is_missing() {
    let image = RgbImage::from_fn(64, 48, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8]));
    let whole = encode(image, ImageFormat::Jpeg);
    let expected = decode_bytes(&whole, "whole.jpg").unwrap();
    let without = &whole[..whole.len() - 2];
    assert_eq!(decode_bytes(without, "no_end.jpg").unwrap(), expected);
    let trailer = [without, b"SEFH\x6a\0\0\0SEFT"].concat();
    assert_eq!(decode_bytes(&trailer, "trailer.jpg").unwrap(), expected);
    for missing in [10, 100, whole.len() / 3] {
        let cut = &without[..without.len() - missing];
        let error = decode_bytes(cut, "cut.jpg").unwrap_err();
        assert!(matches!(error, ImageError::Truncated { .. }), "{missing}: {error}");
    }
}

#[test]
fn an_exif_block_may_have_the_prefix_of_jpeg() {
    let exif = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    for prefix in [&b""[..], b"Exif\0\0"] {
        let block = [prefix, exif].concat();
        let mut chunk = u32::try_from(block.len()).unwrap().to_be_bytes().to_vec();
        let typed = [b"eXIf", block.as_slice()].concat();
        chunk.extend(&typed);
        chunk.extend(crc32(&typed).to_be_bytes());
        let png = encode(red_blue(), ImageFormat::Png);
        let turned = [&png[..33], &chunk, &png[33..]].concat();
        assert_eq!(decode_bytes(&turned, "turned.png").unwrap().dimensions(), (16, 32));
        assert_eq!(dimensions_of(&turned, "turned.png").unwrap(), [16, 32]);
    }
}

#[test]
fn a_git_lfs_pointer_is_named() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n";
    let error = decode_bytes(pointer, "a.jpg").unwrap_err().to_string();
    assert!(error.contains("a.jpg") && error.contains("Git LFS pointer") && error.contains("git lfs pull"), "{error}");
}

#[test]
fn empty_foreign_and_missing_files_are_named() {
    assert!(matches!(decode_bytes(&[], "a"), Err(ImageError::Empty { .. })));
    assert!(matches!(decode_bytes(b"GIF89a\x01\0\x01\0", "a.gif"), Err(ImageError::Format { .. })));
    assert!(matches!(decode_bytes(b"hello", "a"), Err(ImageError::Format { .. })));
    assert!(dimensions(Path::new("/no/such/photo.jpg")).unwrap_err().to_string().contains("/no/such/photo.jpg"));
    let missing = decode(Path::new("/no/such/photo.jpg")).unwrap_err();
    assert!(missing.to_string().contains("/no/such/photo.jpg"), "{missing}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Damage gives an image or an error, never a panic.
    #[test]
    fn damaged_files_do_not_panic(at in 0.0..1.0_f64, byte: u8, cut in 0.0..1.0_f64, kind in 0..3_usize) {
        let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][kind];
        let mut bytes = encode(red_blue(), format);
        let index = (at * bytes.len() as f64) as usize;
        bytes[index] = byte;
        let keep = (cut * bytes.len() as f64) as usize;
        let _ = decode_bytes(&bytes, "damaged");
        let _ = decode_bytes(&bytes[..keep], "damaged");
    }
}
