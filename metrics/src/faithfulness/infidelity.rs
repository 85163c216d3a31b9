//! Infidelity (Yeh et al., 2019): how well a map predicts the loss of the target class's score when parts of the image are
//! removed.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `infidelity[@N]` | mean over s of (b M_s - (p(x) - p(x_s)))², with the b that minimises it | squared fraction | 0..1 | lower |
//!
//! x_s is the image without square s (0 in the normalised image, as for deletion), M_s the sum of the map's values on
//! the square, and p the softmax score of the target class. The N squares (64 by default) have a quarter of the image's
//! shorter side and a uniformly random position inside the image; they are the same for all images of a size.
//!
//! This is the paper's E_I (I^T m - (f(x) - f(x - I)))² for removed squares and for maps that attribute to a pixel's
//! presence: I^T m is the sum of m where the image is removed. A heat map has no absolute scale, so the scale
//! b = sum M d / sum M², with d the loss of score, is fitted, as the paper suggests for such explanations. A map without
//! mass predicts no loss (b M = 0). b may be negative: a map that is high where the score gains has a low infidelity too.
//! The value depends on how much the score varies at all, so compare explainers on the same images only.
//!
//! Undefined where the score of the clean image or of any x_s is not finite.
//!
//! Cost: N forward passes for each image, which all its maps share.

use std::rc::Rc;

use burn::tensor::{Bool, Tensor, TensorData};
use explainer_zoo::random::stream;
use rand::Rng;

use crate::{
    Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, PixelBox, Prediction, Requirement,
};

/// Default number of squares.
pub(crate) const SQUARES: usize = 64;
/// The image's shorter side over a square's side.
const PARTS: usize = 4;

/// Infidelity to the removal of squares.
#[derive(Clone, Debug)]
pub(crate) struct Infidelity {
    /// Number of squares.
    pub squares: usize,
}

impl Metric for Infidelity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: if self.squares == SQUARES { "infidelity".into() } else { format!("infidelity@{}", self.squares) },
            title: format!("infidelity to the removal of {} squares", self.squares),
            family: Family::Faithfulness,
            better: Direction::Lower,
            unit: "squared fraction",
            range: [0.0, 1.0],
            source: "Yeh et al., 2019",
            passes: self.squares,
            needs: Requirement::Nothing,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let size = attributions.batch().size();
        let squares = squares(size, self.squares);
        let losses = losses(attributions.batch(), &squares);
        let value = |(map, image): (&[f32], &usize)| {
            let losses = losses.chunks(squares.len().max(1)).nth(*image)?;
            let losses: Vec<f64> = losses.iter().copied().collect::<Option<_>>()?;
            let masses: Vec<f64> = squares.iter().map(|square| mass(map, size[1], *square)).collect();
            Some(infidelity(&masses, &losses))
        };
        Ok(attributions.maps().zip(attributions.image_indices()).map(value).collect())
    }
}

/// Random squares inside an image.
fn squares([height, width]: [usize; 2], count: usize) -> Vec<PixelBox> {
    let side = (height.min(width) / PARTS).max(1);
    let mut random = stream(0, "infidelity", &[]);
    // The multiplication maps 32 random bits to 0..=largest, with a negligible bias of largest / 2^32.
    let mut draw = |largest: usize| ((u64::from(random.next_u32()) * (largest as u64 + 1)) >> 32) as usize;
    let mut square = |_| {
        let (top, left) = (draw(height.saturating_sub(side)), draw(width.saturating_sub(side)));
        PixelBox { top, left, bottom: top + side, right: left + side }
    };
    (0..count).map(&mut square).collect()
}

/// Loss of the target class's score with each square removed: all squares of image 0 first, then those of image 1, and so
/// on. `None` where a score is not finite.
fn losses(batch: &ImageBatch<'_>, squares: &[PixelBox]) -> Rc<Vec<Option<f64>>> {
    batch.cache().get_or_compute(&format!("infidelity {}", squares.len()), || {
        let [height, width] = batch.size();
        let images: Vec<usize> = (0..batch.len()).flat_map(|image| vec![image; squares.len()]).collect();
        let predictions = batch.predict(&images, |range| {
            let removed: Vec<bool> = range
                .clone()
                .filter_map(|at| squares.get(at % squares.len().max(1)))
                .flat_map(|square| (0..height * width).map(move |pixel| square.contains(pixel / width, pixel % width)))
                .collect();
            let removed = TensorData::new(removed, [range.len(), 1, height, width]);
            let removed = Tensor::<4, Bool>::from_data(removed, &batch.device());
            batch.select(&images[range.clone()]).mask_fill(removed.expand([range.len(), 3, height, width]), 0.0)
        });
        let loss = |(image, perturbed): (&usize, Option<Prediction>)| {
            Some(f64::from(batch.clean(*image)?.score) - f64::from(perturbed?.score))
        };
        images.iter().zip(predictions).map(loss).collect()
    })
}

/// Sum of a map's values on a square.
fn mass(map: &[f32], width: usize, square: PixelBox) -> f64 {
    let rows = map.chunks(width.max(1)).take(square.bottom).skip(square.top);
    rows.flat_map(|row| row.get(square.left..square.right).unwrap_or_default()).map(|value| f64::from(*value)).sum()
}

/// Mean of (b mass - loss)² for the b that minimises it.
fn infidelity(masses: &[f64], losses: &[f64]) -> f64 {
    let squares: f64 = masses.iter().map(|mass| mass * mass).sum();
    let both: f64 = masses.iter().zip(losses).map(|(mass, loss)| mass * loss).sum();
    let scale = if squares > 0.0 { both / squares } else { 0.0 };
    masses.iter().zip(losses).map(|(mass, loss)| (scale * mass - loss).powi(2)).sum::<f64>() / losses.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, image, map};

    #[test]
    fn errors_of_fits_worked_out_by_hand() {
        assert_eq!(infidelity(&[1.0, 2.0], &[0.25, 0.5]), 0.0);
        // b = (0.2 + 0.4) / 2 = 0.3: errors of 0.1 each.
        assert!((infidelity(&[1.0, 1.0], &[0.2, 0.4]) - 0.01).abs() < 1e-12);
        assert!((infidelity(&[0.0, 0.0], &[0.2, 0.4]) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn squares_lie_anywhere_inside_the_image() {
        let squares = squares([8, 12], 500);
        assert!(squares.iter().all(|square| square.bottom <= 8 && square.right <= 12 && square.area() == 4));
        let places =
            |place: fn(&PixelBox) -> usize| squares.iter().map(place).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!((places(|square| square.top), places(|square| square.left)), (7, 11));
    }

    #[test]
    fn of_a_linear_classifier_the_image_itself_is_the_faithful_map() {
        // The score is the mean of the values: a square takes the sum of its values over the number of pixels.
        let backbone = brightness();
        let pixels: Vec<f32> = (0..64).map(|i| 0.1 + (i * 29 % 64) as f32 / 80.0).collect();
        let batch = batch(&backbone, image(&pixels, [8, 8]));
        let inverse: Vec<f32> = pixels.iter().map(|value| 1.0 - value).collect();
        let maps = [map(&pixels, [8, 8]), map(&[1.0; 64], [8, 8]), map(&inverse, [8, 8]), map(&[0.0; 64], [8, 8])];
        let attributions = MetricInput::for_images(&batch, Tensor::cat(maps.to_vec(), 0), vec![0; 4]).unwrap();
        let found: Vec<f64> =
            Infidelity { squares: 64 }.measure(&attributions).unwrap().into_iter().flatten().collect();
        assert!(found[0] < 1e-10 && found[0] < found[1] / 1e3, "{found:?}");
        // A constant map's is the variance of the losses, a map of nothing has their mean square.
        let losses: Vec<f64> = squares([8, 8], 64).iter().map(|square| mass(&pixels, 8, *square) / 64.0).collect();
        let mean = losses.iter().sum::<f64>() / 64.0;
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 64.0;
        let square = losses.iter().map(|loss| loss * loss).sum::<f64>() / 64.0;
        assert!((found[1] / variance - 1.0).abs() < 1e-2 && (found[3] / square - 1.0).abs() < 1e-2, "{found:?}");
        assert!(found[2] > found[1], "{found:?}");
    }
}
