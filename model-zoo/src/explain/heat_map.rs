//! One heat map on the host.

/// A heat map `[height, width]`, row by row. Its values are raw, or in 0..=1 after [`HeatMap::normalised`].
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

/// Values that do not fill the shape of a heat map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a heat map of shape {shape:?} needs {} values, at least one, found {found}; pass one value for each cell",
    shape[0] * shape[1]
)]
pub struct HeatMapError {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// How many values there are.
    pub found: usize,
}

impl HeatMap {
    /// A map from its `height * width` values, at least one.
    ///
    /// # Errors
    /// [`HeatMapError`] for another number of values, and for a map without any.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Self, HeatMapError> {
        if values.len() != height * width || values.is_empty() {
            return Err(HeatMapError { shape: [height, width], found: values.len() });
        }
        Ok(Self { height, width, values })
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Stretched to 0..=1: `(v - min) / max(max - min, 1e-8)`, as explanations are shown and evaluated.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let low = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = (high - low).max(1e-8);
        Self { values: self.values.iter().map(|v| (v - low) / range).collect(), ..*self }
    }

    /// Resampled bilinearly with pixel centres aligned (PyTorch's `align_corners=False`, without antialiasing).
    #[must_use]
    pub fn resized(&self, height: usize, width: usize) -> Self {
        let rows = taps(self.height, height);
        let columns = taps(self.width, width);
        let mut values = Vec::with_capacity(height * width);
        for &(top, bottom, v) in &rows {
            for &(left, right, u) in &columns {
                let at = |y: usize, x: usize| self.values[y * self.width + x];
                let upper = at(top, left) * (1.0 - u) + at(top, right) * u;
                let lower = at(bottom, left) * (1.0 - u) + at(bottom, right) * u;
                values.push(upper * (1.0 - v) + lower * v);
            }
        }
        Self { height, width, values }
    }
}

/// For each target cell the two source cells around it and the weight of the second one.
fn taps(source: usize, target: usize) -> Vec<(usize, usize, f32)> {
    let ratio = source as f32 / target as f32;
    (0..target)
        .map(|i| {
            let place = ((i as f32 + 0.5) * ratio - 0.5).max(0.0);
            let first = (place as usize).min(source - 1);
            (first, (first + 1).min(source - 1), place - first as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_fill_the_shape() {
        let message = HeatMap::new(2, 3, vec![0.0; 5]).unwrap_err().to_string();
        assert!(message.contains("[2, 3]") && message.contains('6') && message.contains('5'), "{message}");
        assert!(HeatMap::new(0, 3, Vec::new()).is_err());
    }

    #[test]
    fn normalised_maps_fill_the_unit_range_and_flat_maps_are_zero() {
        let map = HeatMap::new(1, 3, vec![-2.0, 0.0, 6.0]).unwrap().normalised();
        assert_eq!(map.values(), [0.0, 0.25, 1.0]);
        assert_eq!(HeatMap::new(1, 2, vec![3.0, 3.0]).unwrap().normalised().values(), [0.0, 0.0]);
    }

    #[test]
    fn resizing_follows_align_corners_false() {
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 4.]]]]), size=(1, 4), mode="bilinear")
        let map = HeatMap::new(1, 2, vec![0.0, 4.0]).unwrap();
        assert_eq!(map.resized(1, 4).values(), [0.0, 1.0, 3.0, 4.0]);
        let square = HeatMap::new(2, 2, vec![0.0, 4.0, 8.0, 12.0]).unwrap().resized(4, 4);
        assert_eq!(square.values()[..8], [0.0, 1.0, 3.0, 4.0, 2.0, 3.0, 5.0, 6.0]);
        assert_eq!(map.resized(1, 2), map);
        assert_eq!(map.resized(3, 1).values(), [2.0; 3]);
    }
}
