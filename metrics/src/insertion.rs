//! Insertion and deletion (Petsiuk et al., 2018, "RISE"): how fast the classifier's score rises when the most important
//! pixels appear first, and falls when they go first.
//!
//! Pixels go by falling map value, an equal number a step, in at most N steps (224 by default: 224 pixels a step of an
//! image of 224 x 224). Insertion starts at a Gaussian blur (kernel 11, sigma 5, zeros beyond the edges) of the
//! normalised image and ends at the image; deletion starts at the image and ends at zeros in normalised space, the data
//! set's mean colour. s_i is the softmax score of the explained class after step i of n.
//!
//! | metric | definition | unit | range | better |
//! |---|---|---|---|---|
//! | `insertion[@N]` | (sum s_i - s_0/2 - s_n/2) / n | fraction | 0..1 | higher |
//! | `deletion[@N]` | the same | fraction | 0..1 | lower |
//!
//! Cost: n forward passes; the whole image is the clean pass.

use std::rc::Rc;

use burn::tensor::Tensor;

use super::{Attributions, Better, ImageBatch, Metric, MetricError, MetricSpec, Needs, curve};
use explainer_zoo::image::gaussian_blur;

/// Steps, unless the name gives another number: those of the paper.
pub(super) const STEPS: usize = 224;
/// Taps and standard deviation (pixels) of the blur that insertion starts from.
const BLUR: (usize, f64) = (11, 5.0);

/// Insertion, pixels appearing.
#[derive(Clone, Debug)]
pub(super) struct Insertion {
    /// At most this many, at least one.
    pub steps: usize,
}

/// Deletion, pixels going.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    /// At most this many, at least one.
    pub steps: usize,
}

impl Metric for Insertion {
    fn spec(&self) -> MetricSpec {
        spec("insertion", self.steps, Better::Higher)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(areas(&self.scores(case)))
    }

    fn curves(&self, case: &Attributions<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        Some(self.scores(case))
    }
}

impl Metric for Deletion {
    fn spec(&self) -> MetricSpec {
        spec("deletion", self.steps, Better::Lower)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        Ok(areas(&self.scores(case)))
    }

    fn curves(&self, case: &Attributions<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        Some(self.scores(case))
    }
}

impl Insertion {
    /// Scores of each map's steps, from the blurred image to the image.
    fn scores(&self, case: &Attributions<'_>) -> Rc<Vec<Vec<f64>>> {
        case.memo().get(&format!("insertion {}", self.steps), || {
            let counts = counts(case.pixels(), self.steps);
            // The last step is the whole image, whose score is known.
            let before = case.frames(&counts[..counts.len() - 1]);
            let subject = case.subject();
            let looks = case.predict(&before, subject.images(), &blurred(subject));
            let looks = looks.chunks(counts.len() - 1).enumerate();
            looks.map(|(map, looks)| scores(looks.iter().copied().chain([case.clean(map)]))).collect()
        })
    }
}

impl Deletion {
    /// Scores of each map's steps, from the image to none of it.
    fn scores(&self, case: &Attributions<'_>) -> Rc<Vec<Vec<f64>>> {
        case.memo().get(&format!("deletion {}", self.steps), || {
            let counts = counts(case.pixels(), self.steps);
            let images = case.subject().images();
            let looks = case.predict(&case.frames(&counts[1..]), &images.zeros_like(), images);
            let looks = looks.chunks(counts.len() - 1).enumerate();
            looks.map(|(map, looks)| scores([case.clean(map)].into_iter().chain(looks.iter().copied()))).collect()
        })
    }
}

fn spec(name: &str, steps: usize, better: Better) -> MetricSpec {
    MetricSpec {
        name: if steps == STEPS { name.to_owned() } else { format!("{name}@{steps}") },
        title: format!("{name}, area under the score over {steps} steps"),
        better,
        unit: "fraction",
        range: [0.0, 1.0],
        source: "Petsiuk et al., 2018",
        passes: steps,
        needs: Needs::Nothing,
    }
}

/// What insertion starts from.
fn blurred(subject: &ImageBatch<'_>) -> Rc<Tensor<4>> {
    subject.memo().get("insertion", || {
        let (taps, sigma) = BLUR;
        let ([height, width], edge) = (subject.size(), taps / 2);
        // The kernel sees no further than a frame of zeros, so that nothing is reflected.
        let inner = [0..subject.len(), 0..3, edge..edge + height, edge..edge + width];
        let framed = Tensor::zeros([subject.len(), 3, height + 2 * edge, width + 2 * edge], &subject.device());
        let framed = framed.slice_assign(inner.clone(), subject.images().clone());
        gaussian_blur(framed, taps, sigma).slice(inner)
    })
}

/// How many pixels have changed after each step, from 0 to all; at least two entries.
fn counts(pixels: usize, steps: usize) -> Vec<usize> {
    let each = pixels.div_ceil(steps.max(1)).max(1);
    (0..=pixels.div_ceil(each).max(1)).map(|step| (step * each).min(pixels)).collect()
}

fn scores(looks: impl Iterator<Item = super::Prediction>) -> Vec<f64> {
    looks.map(|look| f64::from(look.score)).collect()
}

fn areas(curves: &[Vec<f64>]) -> Vec<Option<f64>> {
    curves.iter().map(|scores| Some(curve::even(scores))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, map, subject};
    use super::*;

    #[test]
    fn steps_are_equal_and_the_last_takes_what_is_left() {
        assert_eq!(counts(4, 224), [0, 1, 2, 3, 4]);
        assert_eq!(counts(10, 4), [0, 3, 6, 9, 10]);
        assert_eq!(counts(10, 1), [0, 10]);
        assert_eq!(counts(224 * 224, 224).len(), 225);
        assert_eq!(counts(224 * 224, 28)[1], 224 * 8);
    }

    #[test]
    fn areas_of_curves_worked_out_by_hand() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.8, 0.4, 0.2, 0.2], [2, 2])); // p = 0.4
        let best = map(&[1.0, 0.5, 0.3, 0.2], [2, 2]);
        let worst = map(&[0.0, 0.5, 0.8, 0.9], [2, 2]);
        let case = Attributions::of(&subject, Tensor::cat(vec![best, worst], 0), vec![0, 0]).unwrap();
        let deleted = Deletion { steps: 4 }.measure(&case).unwrap();
        let curves = Deletion { steps: 4 }.curves(&case).unwrap();
        assert_eq!(curves[0].len(), 5);
        assert!((curves[1][2] - 0.3).abs() < 1e-5, "{curves:?}");
        // Scores 0.4, 0.2, 0.1, 0.05, 0 and 0.4, 0.35, 0.3, 0.2, 0; a clamped logit keeps 0 from being exact.
        for (found, expected) in deleted.iter().zip([0.55 / 4.0, 1.05 / 4.0]) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{deleted:?}");
        }
        let soft: Vec<f64> = blurred(&subject).to_data().iter::<f32>().take(4).map(f64::from).collect();
        let sharp = [0.8, 0.4, 0.2, 0.2];
        let inserted = Insertion { steps: 4 }.measure(&case).unwrap();
        for (found, order) in inserted.iter().zip([[0, 1, 2, 3], [3, 2, 1, 0]]) {
            let mut now = soft.clone();
            let mut scores = vec![now.iter().sum::<f64>() / 4.0];
            for pixel in order {
                now[pixel] = sharp[pixel];
                scores.push(now.iter().sum::<f64>() / 4.0);
            }
            let expected = (scores.iter().sum::<f64>() - scores[0] / 2.0 - scores[4] / 2.0) / 4.0;
            assert!((found.unwrap() - expected).abs() < 1e-5, "{inserted:?}");
        }
        assert!(inserted[0] > inserted[1] && deleted[0] < deleted[1]);
    }

    #[test]
    fn the_blur_sees_zeros_beyond_the_edge() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.5, 0.25], [1, 2]));
        let soft: Vec<f64> = blurred(&subject).to_data().iter::<f32>().take(2).map(f64::from).collect();
        let weight = |distance: f64| (-distance * distance / 50.0).exp();
        let sum: f64 = (-5..=5).map(|k| weight(f64::from(k))).sum();
        let (here, beside) = (1.0 / (sum * sum), weight(1.0) / (sum * sum));
        for (found, expected) in soft.iter().zip([0.5 * here + 0.25 * beside, 0.25 * here + 0.5 * beside]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn the_default_number_of_steps_has_no_suffix() {
        assert_eq!(Insertion { steps: 224 }.spec().name, "insertion");
        assert_eq!(Deletion { steps: 28 }.spec().name, "deletion@28");
        assert_eq!(Deletion { steps: 28 }.spec().passes, 28);
    }
}
