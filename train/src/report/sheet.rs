//! Contact sheets: rows of images with column titles and row captions, in one image.

use std::path::Path;

use font8x8::legacy::BASIC_LEGACY;
use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

use super::ReportError;
use super::arrays::write_rgb;

/// The smallest side of a cell, in pixels, approximately: smaller images are enlarged by an integer factor, without
/// interpolation.
const SMALLEST_CELL: u32 = 176;
/// The largest side of a cell, in pixels: larger images are reduced.
const LARGEST_CELL: u32 = 320;
const MARGIN: u32 = 24;
const GAP: u32 = 12;
/// Side of a glyph of the font, in pixels.
const GLYPH: u32 = 8;
/// Text is drawn at twice the size of the font, or at its own size if it does not fit.
const TEXT_ZOOM: u32 = 2;
/// Height of a line of text with the space below it.
const LINE: u32 = GLYPH * TEXT_ZOOM + 8;

const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([30; 3]);
const FAINT_INK: Rgb<u8> = Rgb([110; 3]);

/// A contact sheet: black text on white, one image in each cell, a caption above each row.
#[derive(Debug, Clone)]
pub struct Sheet {
    columns: Vec<String>,
    rows: Vec<(String, Vec<RgbImage>)>,
}

impl Sheet {
    /// An empty sheet with these column titles.
    pub fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row of images, one for each column; extra images are left out.
    ///
    /// The caption is above the row; an empty caption takes no space. The font has ASCII only: other characters become `?`.
    pub fn row(&mut self, caption: impl Into<String>, images: impl IntoIterator<Item = RgbImage>) -> &mut Self {
        self.rows.push((caption.into(), images.into_iter().take(self.columns.len()).collect()));
        self
    }

    /// Renders the sheet.
    #[must_use]
    pub fn render(&self) -> RgbImage {
        let cell = self.cell();
        let columns = (self.columns.len() as u32).max(1);
        let width = 2 * MARGIN + columns * (cell + GAP) - GAP;
        let row_height = |caption: &str| cell + GAP + if caption.is_empty() { 0 } else { LINE };
        let rows: u32 = self.rows.iter().map(|(caption, _)| row_height(caption)).sum();
        let mut sheet = RgbImage::from_pixel(width, 2 * MARGIN + LINE + GAP + rows.saturating_sub(GAP), PAPER);

        let left = |column: usize| MARGIN + column as u32 * (cell + GAP);
        for (i, title) in self.columns.iter().enumerate() {
            write_line(&mut sheet, title, [left(i), MARGIN], cell, INK);
        }
        let mut top = MARGIN + LINE + GAP;
        for (caption, images) in &self.rows {
            write_line(&mut sheet, caption, [MARGIN, top], width - 2 * MARGIN, FAINT_INK);
            let cell_top = top + row_height(caption) - cell - GAP;
            for (i, image) in images.iter().enumerate() {
                let shown = fitted(image, cell);
                let x = left(i) + (cell - shown.width()) / 2;
                let y = cell_top + (cell - shown.height()) / 2;
                overlay(&mut sheet, &shown, i64::from(x), i64::from(y));
            }
            top += row_height(caption);
        }
        sheet
    }

    /// Writes the sheet as PNG.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        write_rgb(path, &self.render())
    }

    /// The side of a cell: that of the largest image after scaling.
    fn cell(&self) -> u32 {
        let sides = self.rows.iter().flat_map(|(_, images)| images).map(|image| image.width().max(image.height()));
        let side = sides.max().unwrap_or(SMALLEST_CELL).max(1);
        (side * SMALLEST_CELL.div_ceil(side)).min(LARGEST_CELL)
    }
}

/// The image scaled to the cell with its aspect ratio; enlarged by an integer factor only.
fn fitted(image: &RgbImage, cell: u32) -> RgbImage {
    let (width, height) = image.dimensions();
    let side = width.max(height).max(1);
    if side <= cell {
        let zoom = cell / side;
        return resize(image, width * zoom, height * zoom, FilterType::Nearest);
    }
    let [width, height] = [width, height].map(|length| (length * cell / side).max(1));
    resize(image, width, height, FilterType::Triangle)
}

/// Draws one line of text at its upper left corner, at most `width` pixels wide. Text that does not fit ends in two dots.
fn write_line(sheet: &mut RgbImage, text: &str, [left, top]: [u32; 2], width: u32, ink: Rgb<u8>) {
    let length = text.chars().count() as u32;
    let zoom = if length * GLYPH * TEXT_ZOOM <= width { TEXT_ZOOM } else { 1 };
    let room = (width / (GLYPH * zoom)) as usize;
    let shown: Vec<char> = if length as usize > room {
        text.chars().take(room.saturating_sub(2)).chain("..".chars()).collect()
    } else {
        text.chars().collect()
    };
    let baseline = top + GLYPH * (TEXT_ZOOM - zoom); // both text sizes have the same baseline
    for (i, character) in shown.into_iter().enumerate() {
        let rows = BASIC_LEGACY.get(character as usize).unwrap_or(&BASIC_LEGACY['?' as usize]);
        for (x, y) in (0..GLYPH * zoom).flat_map(|y| (0..GLYPH * zoom).map(move |x| (x, y))) {
            let set = rows[(y / zoom) as usize] >> (x / zoom) & 1 == 1;
            let x = left + i as u32 * GLYPH * zoom + x;
            if set && let Some(pixel) = sheet.get_pixel_mut_checked(x, baseline + y) {
                *pixel = ink;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Rgb<u8> = Rgb([255, 0, 0]);

    fn red(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, RED)
    }

    fn count(sheet: &RgbImage, colour: Rgb<u8>) -> usize {
        sheet.pixels().filter(|&&pixel| pixel == colour).count()
    }

    #[test]
    fn small_images_are_enlarged_and_large_ones_reduced() {
        for (side, shown) in [(96, 192), (224, 224), (1, 176), (4000, 320)] {
            let mut sheet = Sheet::new(["image", "mask"]);
            sheet.row("one", [red(side, side), red(side, side)]);
            let sheet = sheet.render();
            assert_eq!(sheet.width(), 2 * MARGIN + 2 * shown + GAP);
            assert_eq!(sheet.height(), 2 * MARGIN + 2 * LINE + GAP + shown);
            assert_eq!(count(&sheet, RED), 2 * (shown * shown) as usize);
        }
    }

    #[test]
    fn proportions_are_kept() {
        let mut sheet = Sheet::new(["image"]);
        sheet.row("", [red(100, 50)]);
        assert_eq!(count(&sheet.render(), RED), 200 * 100);
    }

    #[test]
    fn odd_content_is_drawn_as_far_as_it_fits() {
        let mut sheet = Sheet::new(["a title that is far longer than its column is wide"]);
        sheet.row("Schlüssel \u{1F511}", [red(96, 96), red(96, 96)]).row("none", []);
        let sheet = sheet.render();
        let margin = sheet.enumerate_pixels().filter(|(x, ..)| *x < MARGIN || *x >= sheet.width() - MARGIN);
        assert!(margin.clone().count() > 0 && margin.map(|(.., pixel)| pixel).all(|&pixel| pixel == PAPER));
        assert!(count(&sheet, INK) > 0 && count(&sheet, FAINT_INK) > 0);
        assert_eq!(count(&sheet, RED), 192 * 192);
        assert_eq!(Sheet::new([""; 0]).render().width(), 2 * MARGIN + SMALLEST_CELL);
    }

    #[test]
    fn text_is_drawn_upright_and_unmirrored() {
        let mut sheet = RgbImage::from_pixel(16, 16, PAPER);
        write_line(&mut sheet, "L", [0, 0], 16, INK);
        let ink = |columns: std::ops::Range<u32>, rows: std::ops::Range<u32>| {
            rows.flat_map(|y| columns.clone().map(move |x| (x, y)))
                .filter(|&(x, y)| *sheet.get_pixel(x, y) == INK)
                .count()
        };
        assert!(ink(0..8, 0..8) > ink(8..16, 0..8), "the stem is on the left");
        assert!(ink(0..16, 8..16) > ink(0..16, 0..8), "the foot is at the bottom");
    }
}
