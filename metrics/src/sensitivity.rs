//! Max-sensitivity (Yeh et al., 2019): how much an explanation changes when the image hardly does.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `max-sensitivity[@R]` | max over d of \|\|m(x + d) - m(x)\|\| / \|\|m(x)\|\| | fraction | 0 and above | lower |
//!
//! m(x) is the map of the explained class, at the image's size, as it is shown, and || || the
//! Euclidean norm. The maximum over all d of at most R in every value of the normalised image (0.02 by default) is
//! estimated by 10 draws, uniform in that cube, the same for every image. The class stays that of the whole image.
//!
//! A constant map is perfectly insensitive: read it beside a measure of faithfulness. The explainer is asked again, so
//! the maps under measurement must be its own. Undefined without it, for a map that is 0 everywhere, and where a map of a
//! disturbed image is not finite.
//!
//! Cost: 10 explanations, for a learned explainer as many forward passes.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use rand::Rng;

use super::{Attributions, Better, ImageBatch, Metric, MetricError, MetricSpec, ModelState, Needs};
use explainer_zoo::random::stream;

/// The largest disturbance, unless the name gives another: that of the Captum library.
pub(super) const RADIUS: f64 = 0.02;
/// Disturbed images.
const DRAWS: usize = 10;

/// Max-sensitivity.
#[derive(Clone, Debug)]
pub(super) struct MaxSensitivity {
    /// The largest disturbance of a normalised value.
    pub radius: f64,
}

impl Metric for MaxSensitivity {
    fn spec(&self) -> MetricSpec {
        MetricSpec {
            name: if self.radius == RADIUS {
                "max-sensitivity".into()
            } else {
                format!("max-sensitivity@{}", self.radius)
            },
            title: format!("max-sensitivity to disturbances of up to {} of a normalised value", self.radius),
            better: Better::Lower,
            unit: "fraction",
            range: [0.0, f64::INFINITY],
            source: "Yeh et al., 2019",
            passes: DRAWS,
            needs: Needs::Explainer,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let subject = case.subject();
        // Draw by draw for each image, once for all maps of the image.
        let of: Vec<usize> = (0..subject.len()).flat_map(|image| [image; DRAWS]).collect();
        let classes: Vec<usize> = of.iter().filter_map(|image| subject.classes().get(*image).copied()).collect();
        let noise = noise(subject, self.radius);
        let drawn = case.explain(&classes, ModelState::Trained, |range| {
            let draws: Vec<usize> = range.clone().map(|at| at % DRAWS).collect();
            subject.pick(&of[range]) + super::image_batch::pick(&noise, &draws)
        })?;
        let Some(drawn) = drawn else { return Ok(vec![None; case.len()]) };
        let drawn = Attributions::of(subject, drawn, of)?;
        let (maps, sound): (Vec<&[f32]>, &[bool]) = (drawn.maps().collect(), drawn.sound());
        let value = |(map, image): (&[f32], &usize)| {
            let range = image * DRAWS..(image + 1) * DRAWS;
            let (maps, sound) = (maps.get(range.clone())?, sound.get(range)?);
            let norm = norm(map.iter().map(|value| f64::from(*value)));
            let change = |other: &&[f32]| self::norm(map.iter().zip(*other).map(|(a, b)| f64::from(a - b)));
            let most = maps.iter().map(change).fold(0.0, f64::max);
            (norm > 0.0 && sound.iter().all(|sound| *sound)).then(|| most / norm)
        };
        Ok(case.maps().zip(case.images()).map(value).collect())
    }
}

/// Disturbances `[DRAWS,3,H,W]`, uniform in -radius..radius.
fn noise(subject: &ImageBatch<'_>, radius: f64) -> Rc<Tensor<4>> {
    subject.memo().get(&format!("max-sensitivity {radius}"), || {
        let [height, width] = subject.size();
        let mut random = stream(0, "max-sensitivity", &[]);
        let mut uniform = |_| ((f64::from(random.next_u32()) + 0.5) / 2_147_483_648.0 - 1.0) * radius;
        let values: Vec<f32> = (0..DRAWS * 3 * height * width).map(&mut uniform).map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [DRAWS, 3, height, width]), &subject.device())
    })
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, drawn, image, map, shade, subject};
    use super::*;

    #[test]
    fn an_explainer_that_shows_the_image_changes_as_the_image_does() {
        let backbone = Brightness::new();
        let pixels = [0.5, 0.25, 0.75, 1.0];
        let subject = subject(&backbone, image(&pixels, [2, 2]));
        let own = drawn(0, |image: Tensor<4>, _, _| image.narrow(1, 0, 1));
        let noise: Vec<f32> = noise(&subject, 0.1).to_data().iter().collect();
        assert!(noise.iter().all(|value| value.abs() <= 0.1) && noise.iter().any(|value| value.abs() > 0.09));
        // The first channel's noise of each draw, over the norm of the map.
        let expected =
            noise.chunks(12).map(|draw| norm(draw[..4].iter().map(|value| f64::from(*value)))).fold(0.0, f64::max)
                / norm(pixels.iter().map(|value| f64::from(*value)));
        let maps = Tensor::cat(vec![map(&pixels, [2, 2]), map(&[0.0; 4], [2, 2])], 0);
        let case = Attributions::of(&subject, maps, vec![0, 0]).unwrap().with_explainer(&own);
        let found = MaxSensitivity { radius: 0.1 }.measure(&case).unwrap();
        assert!((found[0].unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        assert_eq!(found[1], None, "a map without mass");
    }

    #[test]
    fn a_constant_explainer_is_insensitive_and_a_broken_one_undefined() {
        let backbone = Brightness::new();
        let maps = map(&[0.5; 4], [2, 2]);
        let measured = |value: f32| {
            let own = drawn(0, move |image, _, _| shade(image, value));
            let subject = subject(&backbone, image(&[0.5; 4], [2, 2]));
            let case = Attributions::new(&subject, maps.clone()).unwrap().with_explainer(&own);
            MaxSensitivity { radius: RADIUS }.measure(&case).unwrap()
        };
        assert_eq!(measured(0.5), [Some(0.0)]);
        assert_eq!(measured(f32::NAN), [None]);
    }
}
