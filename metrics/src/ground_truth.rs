//! What is known of an image apart from its pixels: where its object is, and where people look.

/// A rectangle of pixels. Rows `top..bottom`, columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Row below the last.
    pub bottom: usize,
    /// Column behind the last.
    pub right: usize,
}

impl PixelBox {
    /// The smallest rectangle around the pixels, of an image of `width` columns, that are chosen; nothing for none.
    #[must_use]
    pub fn around(chosen: &[bool], width: usize) -> Option<Self> {
        let mut area: Option<Self> = None;
        for (pixel, _) in chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
            let (row, column) = (pixel / width, pixel % width);
            let here = Self { top: row, left: column, bottom: row + 1, right: column + 1 };
            area = Some(area.map_or(here, |area| Self {
                top: area.top.min(row),
                left: area.left.min(column),
                bottom: area.bottom.max(row + 1),
                right: area.right.max(column + 1),
            }));
        }
        area
    }

    /// Number of pixels.
    #[must_use]
    pub fn pixels(self) -> usize {
        self.bottom.saturating_sub(self.top) * self.right.saturating_sub(self.left)
    }

    /// Whether a pixel lies within.
    #[must_use]
    pub fn contains(self, row: usize, column: usize) -> bool {
        (self.top..self.bottom).contains(&row) && (self.left..self.right).contains(&column)
    }

    /// Intersection over union with another rectangle, in 0..=1.
    #[must_use]
    pub fn overlap(self, other: Self) -> f64 {
        let both = Self {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.min(other.bottom),
            right: self.right.min(other.right),
        };
        let both = both.pixels();
        both as f64 / (self.pixels() + other.pixels() - both).max(1) as f64
    }
}

/// What is known of one image, in pixels of the crop that the classifier sees. Everything may be unknown, which is the
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroundTruth {
    /// Boxes around its objects.
    pub boxes: Vec<PixelBox>,
    /// Which pixels show an object, row by row.
    pub mask: Option<Vec<bool>>,
    /// Where people looked: row and column of each fixation.
    pub fixations: Vec<[usize; 2]>,
}

impl GroundTruth {
    /// Of an image of `width` columns whose object is known to the pixel; its box follows.
    #[must_use]
    pub fn of_mask(mask: Vec<bool>, width: usize) -> Self {
        Self { boxes: PixelBox::around(&mask, width).into_iter().collect(), mask: Some(mask), fixations: Vec::new() }
    }

    /// Which pixels of an image of `width` columns belong to an object: those of the mask, or else those of any box;
    /// nothing where neither is known.
    #[must_use]
    pub fn object(&self, [height, width]: [usize; 2]) -> Option<Vec<bool>> {
        self.mask.clone().or_else(|| self.inside_boxes([height, width]))
    }

    /// Which pixels lie in any of the boxes; nothing where there is none.
    #[must_use]
    pub fn inside_boxes(&self, [height, width]: [usize; 2]) -> Option<Vec<bool>> {
        let inside = |pixel: usize| self.boxes.iter().any(|area| area.contains(pixel / width, pixel % width));
        (!self.boxes.is_empty()).then(|| (0..height * width).map(inside).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_by_hand() {
        let chosen: Vec<bool> = (0..12).map(|i| [5, 6, 10].contains(&i)).collect();
        let area = PixelBox::around(&chosen, 4).unwrap();
        assert_eq!(area, PixelBox { top: 1, left: 1, bottom: 3, right: 3 });
        assert!(area.contains(2, 1) && !area.contains(0, 1) && !area.contains(1, 3));
        assert_eq!(PixelBox::around(&[false; 4], 2), None);
        let other = PixelBox { top: 0, left: 2, bottom: 2, right: 4 };
        assert_eq!(area.overlap(other), 1.0 / 7.0);
        assert_eq!((area.overlap(area), area.overlap(PixelBox { top: 5, left: 5, bottom: 6, right: 6 })), (1.0, 0.0));
    }

    #[test]
    fn a_mask_says_more_than_boxes() {
        let mask = vec![false, true, true, false, true, false];
        let truth = GroundTruth::of_mask(mask.clone(), 3);
        assert_eq!(truth.object([2, 3]), Some(mask));
        assert_eq!(truth.inside_boxes([2, 3]), Some(vec![false, true, true, false, true, true]));
        let boxes = GroundTruth { mask: None, ..truth };
        assert_eq!(boxes.object([2, 3]), boxes.inside_boxes([2, 3]));
        assert_eq!(GroundTruth::default().object([2, 3]), None);
    }
}
