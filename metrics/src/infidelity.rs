//! Infidelity (Yeh et al., 2019): how well a map foretells what the class's score loses when parts of the image go.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `infidelity[@N]` | mean over s of (b M_s - (p(x) - p(x_s)))², b the number that makes it least | squared fraction | 0..1 | lower |
//!
//! x_s is the image without square s (0 in the normalised image, as for deletion), M_s the sum of the map's values on
//! the square, and p the softmax score of the explained class. The N squares (64 by default) have a quarter of the image's
//! shorter side and lie anywhere inside with the same probability; they are the same for every image of a size.
//!
//! Of the paper's definition E_I (I^T m - (f(x) - f(x - I)))² this is the one for removed squares and for maps that
//! attribute to a pixel's presence: I^T m is the sum of m where the image goes. A heat map's values are relative, so the scale b is fitted, b = sum M d / sum M² with d the loss of score; the paper suggests it for
//! explanations that know no scale. A map without mass foretells no loss (b M = 0). Negative b is not ruled out: a map
//! that is high where the score gains has little infidelity too. The value depends on how much the score varies at all,
//! so compare explainers on the same images only.
//!
//! Cost: N forward passes an image, which all its maps share.

use std::rc::Rc;

use burn::tensor::{Bool, Tensor, TensorData};
use rand::Rng;

use super::{Attributions, Better, ImageBatch, Metric, MetricError, MetricSpec, Needs};
use explainer_zoo::random::stream;

use crate::PixelBox;

/// Squares, unless the name gives another number.
pub(super) const SQUARES: usize = 64;
/// The image's shorter side over a square's.
const PARTS: usize = 4;

/// Infidelity to the removal of squares.
#[derive(Clone, Debug)]
pub(super) struct Infidelity {
    /// How many squares.
    pub squares: usize,
}

impl Metric for Infidelity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: if self.squares == SQUARES { "infidelity".into() } else { format!("infidelity@{}", self.squares) },
            title: format!("infidelity to the removal of {} squares", self.squares),
            better: Better::Lower,
            unit: "squared fraction",
            range: [0.0, 1.0],
            source: "Yeh et al., 2019",
            passes: self.squares,
            needs: Needs::Nothing,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let [_, width] = case.subject().size();
        let squares = squares(case.subject().size(), self.squares);
        let losses = losses(case.subject(), &squares);
        let value = |(map, image): (&[f32], &usize)| {
            let losses = losses.chunks(squares.len().max(1)).nth(*image)?;
            let masses: Vec<f64> = squares.iter().map(|square| mass(map, width, *square)).collect();
            Some(infidelity(&masses, losses))
        };
        Ok(case.maps().zip(case.images()).map(value).collect())
    }
}

/// Squares inside an image.
fn squares([height, width]: [usize; 2], count: usize) -> Vec<PixelBox> {
    let side = (height.min(width) / PARTS).max(1);
    let mut random = stream(0, "infidelity", &[]);
    // A multiplication maps 32 random bits to 0..=room; its bias of room / 2^32 is nothing.
    let mut draw = |room: usize| ((u64::from(random.next_u32()) * (room as u64 + 1)) >> 32) as usize;
    let mut square = |_| {
        let (top, left) = (draw(height.saturating_sub(side)), draw(width.saturating_sub(side)));
        PixelBox { top, left, bottom: top + side, right: left + side }
    };
    (0..count).map(&mut square).collect()
}

/// What the explained class's score loses with each square, image after image.
fn losses(subject: &ImageBatch<'_>, squares: &[PixelBox]) -> Rc<Vec<f64>> {
    subject.memo().get(&format!("infidelity {}", squares.len()), || {
        let [height, width] = subject.size();
        let of: Vec<usize> = (0..subject.len()).flat_map(|image| vec![image; squares.len()]).collect();
        let looks = subject.predict(&of, |range| {
            let gone: Vec<bool> = range
                .clone()
                .filter_map(|at| squares.get(at % squares.len().max(1)))
                .flat_map(|square| (0..height * width).map(move |pixel| square.contains(pixel / width, pixel % width)))
                .collect();
            let gone = TensorData::new(gone, [range.len(), 1, height, width]);
            let gone = Tensor::<4, Bool>::from_data(gone, &subject.device()).expand([range.len(), 3, height, width]);
            subject.pick(&of[range]).mask_fill(gone, 0.0)
        });
        let loss =
            |(image, look): (&usize, super::Prediction)| f64::from(subject.clean(*image).score) - f64::from(look.score);
        of.iter().zip(looks).map(loss).collect()
    })
}

/// Sum of a map's values on a square.
fn mass(map: &[f32], width: usize, square: PixelBox) -> f64 {
    let rows = map.chunks(width.max(1)).take(square.bottom).skip(square.top);
    rows.flat_map(|row| row.get(square.left..square.right).unwrap_or_default()).map(|value| f64::from(*value)).sum()
}

/// Mean of (b mass - loss)² for the best b.
fn infidelity(masses: &[f64], losses: &[f64]) -> f64 {
    let squares: f64 = masses.iter().map(|mass| mass * mass).sum();
    let both: f64 = masses.iter().zip(losses).map(|(mass, loss)| mass * loss).sum();
    let scale = if squares > 0.0 { both / squares } else { 0.0 };
    masses.iter().zip(losses).map(|(mass, loss)| (scale * mass - loss).powi(2)).sum::<f64>() / losses.len() as f64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, map, subject};
    use super::*;

    #[test]
    fn errors_of_fits_worked_out_by_hand() {
        assert_eq!(infidelity(&[1.0, 2.0], &[0.25, 0.5]), 0.0);
        // b = (0.2 + 0.4) / 2 = 0.3: errors of 0.1 each.
        assert!((infidelity(&[1.0, 1.0], &[0.2, 0.4]) - 0.01).abs() < 1e-12);
        assert!((infidelity(&[0.0, 0.0], &[0.2, 0.4]) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn squares_lie_inside_and_everywhere() {
        let squares = squares([8, 12], 500);
        assert!(squares.iter().all(|square| square.bottom <= 8 && square.right <= 12 && square.pixels() == 4));
        let places =
            |place: fn(&PixelBox) -> usize| squares.iter().map(place).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!((places(|square| square.top), places(|square| square.left)), (7, 11));
    }

    #[test]
    fn of_a_linear_classifier_the_image_itself_is_the_faithful_map() {
        // The score is the mean of the values: a square takes the sum of its values over the number of pixels.
        let backbone = Brightness::new();
        let pixels: Vec<f32> = (0..64).map(|i| 0.1 + (i * 29 % 64) as f32 / 80.0).collect();
        let subject = subject(&backbone, image(&pixels, [8, 8]));
        let inverse: Vec<f32> = pixels.iter().map(|value| 1.0 - value).collect();
        let maps = [map(&pixels, [8, 8]), map(&[1.0; 64], [8, 8]), map(&inverse, [8, 8]), map(&[0.0; 64], [8, 8])];
        let case = Attributions::of(&subject, Tensor::cat(maps.to_vec(), 0), vec![0; 4]).unwrap();
        let found: Vec<f64> = Infidelity { squares: 64 }.measure(&case).unwrap().into_iter().flatten().collect();
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
