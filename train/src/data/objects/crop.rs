//! From pixels of an image to pixels of its centre crop.

use explainer_metrics::PixelBox;
use explainer_zoo::image::CropTransform;

/// The square crop of an image that the classifier gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct CropView {
    /// The crop's position in the resized image.
    pub placement: CropTransform,
    /// Side of the crop in pixels.
    pub side: usize,
}

impl CropView {
    /// A point (x, y) of the image in the crop.
    fn to_crop(self, [x, y]: [f64; 2]) -> [f64; 2] {
        let CropTransform { scale, offset } = self.placement;
        [x * scale[0] - offset[0], y * scale[1] - offset[1]]
    }

    /// A point (x, y) of the crop in the image.
    fn to_image(self, [x, y]: [f64; 2]) -> [f64; 2] {
        let CropTransform { scale, offset } = self.placement;
        [(x + offset[0]) / scale[0], (y + offset[1]) / scale[1]]
    }

    /// The pixels whose centres lie in a box of the image; `None` if there are none.
    pub fn area(self, [left, top, right, bottom]: [f64; 4]) -> Option<PixelBox> {
        let [low, high] = [[left, top], [right, bottom]].map(|corner| self.to_crop(corner));
        let edge = |value: f64| (value - 0.5).ceil().clamp(0.0, self.side as f64) as usize;
        let found = PixelBox { left: edge(low[0]), top: edge(low[1]), right: edge(high[0]), bottom: edge(high[1]) };
        (found.area() > 0).then_some(found)
    }

    /// Row and column of the pixel at a point (x, y) of the image; `None` outside the crop.
    pub fn pixel(self, point: [f64; 2]) -> Option<[usize; 2]> {
        let [x, y] = self.to_crop(point);
        let within = |value: f64| (value >= 0.0 && value < self.side as f64).then_some(value as usize);
        Some([within(y)?, within(x)?])
    }

    /// Sets the pixels of `mask` whose centres lie inside a polygon of the image, by the even-odd rule.
    pub fn fill(self, mask: &mut [bool], corners: &[[f64; 2]]) {
        let corners: Vec<[f64; 2]> = corners.iter().map(|corner| self.to_crop(*corner)).collect();
        let next = corners.iter().cycle().skip(1);
        let edges: Vec<_> = corners.iter().zip(next).collect();
        for (row, line) in mask.chunks_mut(self.side.max(1)).enumerate() {
            let y = row as f64 + 0.5;
            let crossing = |(a, b): &(&[f64; 2], &[f64; 2])| {
                ((a[1] <= y) != (b[1] <= y)).then(|| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            };
            let crossings: Vec<f64> = edges.iter().filter_map(crossing).collect();
            for (column, inside) in line.iter_mut().enumerate() {
                let x = column as f64 + 0.5;
                *inside |= crossings.iter().filter(|crossing| **crossing <= x).count() % 2 == 1;
            }
        }
    }

    /// Sets the pixels of `mask` whose centres lie in cells with `inside`, of a grid of `columns` x `rows` cells (row by
    /// row) that covers the image of `size` (width, height).
    pub fn copy(self, mask: &mut [bool], size: [u32; 2], [columns, rows]: [usize; 2], inside: impl Fn(usize) -> bool) {
        for (pixel, set) in mask.iter_mut().enumerate() {
            let centre = [pixel % self.side, pixel / self.side].map(|at| at as f64 + 0.5);
            let [x, y] = self.to_image(centre);
            let column = (x / f64::from(size[0]) * columns as f64) as usize;
            let row = (y / f64::from(size[1]) * rows as f64) as usize;
            *set |= column < columns && row < rows && inside(row * columns + column);
        }
    }
}
