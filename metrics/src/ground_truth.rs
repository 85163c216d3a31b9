//! Ground truth of an image: boxes and masks of its objects, and fixations of people.

/// A rectangle of pixels: rows `top..bottom`, columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Row after the last one.
    pub bottom: usize,
    /// Column after the last one.
    pub right: usize,
}

impl PixelBox {
    /// The bounding box of the pixels that are set in `mask`, row by row, of an image of `width` columns; `None` if no
    /// pixel is.
    #[must_use]
    pub fn bounding(mask: &[bool], width: usize) -> Option<Self> {
        let mut found: Option<Self> = None;
        for (pixel, _) in mask.iter().enumerate().filter(|(_, set)| **set) {
            let (row, column) = (pixel / width, pixel % width);
            let single = Self { top: row, left: column, bottom: row + 1, right: column + 1 };
            found = Some(found.map_or(single, |found| Self {
                top: found.top.min(row),
                left: found.left.min(column),
                bottom: found.bottom.max(row + 1),
                right: found.right.max(column + 1),
            }));
        }
        found
    }

    /// Number of pixels.
    #[must_use]
    pub fn area(self) -> usize {
        self.bottom.saturating_sub(self.top) * self.right.saturating_sub(self.left)
    }

    /// Whether a pixel lies in the box.
    #[must_use]
    pub fn contains(self, row: usize, column: usize) -> bool {
        (self.top..self.bottom).contains(&row) && (self.left..self.right).contains(&column)
    }

    /// Intersection over union with another box, in 0..=1.
    #[must_use]
    pub fn iou(self, other: Self) -> f64 {
        let intersection = Self {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.min(other.bottom),
            right: self.right.min(other.right),
        };
        let intersection = intersection.area();
        intersection as f64 / (self.area() + other.area() - intersection).max(1) as f64
    }
}

/// Ground truth of one image, in pixels of the preprocessed image that the classifier gets. The default is empty: nothing
/// is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroundTruth {
    /// Bounding boxes of the objects.
    pub boxes: Vec<PixelBox>,
    /// Which pixels show an object, row by row.
    pub mask: Option<Vec<bool>>,
    /// Row and column of each fixation.
    pub fixations: Vec<[usize; 2]>,
}

impl GroundTruth {
    /// Ground truth from the object mask of an image of `width` columns; its box is the mask's bounding box.
    #[must_use]
    pub fn from_mask(mask: Vec<bool>, width: usize) -> Self {
        Self { boxes: PixelBox::bounding(&mask, width).into_iter().collect(), mask: Some(mask), fixations: Vec::new() }
    }

    /// Object mask of an image of this height and width: the mask, or else all pixels in any box; `None` without either.
    #[must_use]
    pub fn object_mask(&self, [height, width]: [usize; 2]) -> Option<Vec<bool>> {
        self.mask.clone().or_else(|| self.box_mask([height, width]))
    }

    /// All pixels in any box of an image of this height and width; `None` without a box.
    #[must_use]
    pub fn box_mask(&self, [height, width]: [usize; 2]) -> Option<Vec<bool>> {
        let inside = |pixel: usize| self.boxes.iter().any(|area| area.contains(pixel / width, pixel % width));
        (!self.boxes.is_empty()).then(|| (0..height * width).map(inside).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_by_hand() {
        let mask: Vec<bool> = (0..12).map(|i| [5, 6, 10].contains(&i)).collect();
        let found = PixelBox::bounding(&mask, 4).unwrap();
        assert_eq!(found, PixelBox { top: 1, left: 1, bottom: 3, right: 3 });
        assert!(found.contains(2, 1) && !found.contains(0, 1) && !found.contains(1, 3));
        assert_eq!(PixelBox::bounding(&[false; 4], 2), None);
        let other = PixelBox { top: 0, left: 2, bottom: 2, right: 4 };
        assert_eq!(found.iou(other), 1.0 / 7.0);
        assert_eq!((found.iou(found), found.iou(PixelBox { top: 5, left: 5, bottom: 6, right: 6 })), (1.0, 0.0));
    }

    #[test]
    fn the_mask_takes_precedence_over_boxes() {
        let mask = vec![false, true, true, false, true, false];
        let truth = GroundTruth::from_mask(mask.clone(), 3);
        assert_eq!(truth.object_mask([2, 3]), Some(mask));
        assert_eq!(truth.box_mask([2, 3]), Some(vec![false, true, true, false, true, true]));
        let boxes = GroundTruth { mask: None, ..truth };
        assert_eq!(boxes.object_mask([2, 3]), boxes.box_mask([2, 3]));
        assert_eq!(GroundTruth::default().object_mask([2, 3]), None);
    }
}
