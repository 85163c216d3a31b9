//! Max-sensitivity (Yeh et al., 2019): the largest relative change of the map under small perturbations of the image.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `max-sensitivity[@R]` | max over d of \|\|m(x + d) - m(x)\|\| / \|\|m(x)\|\| | fraction | 0 and above | lower |
//!
//! m(x) is the map of the target class, upsampled to the image's size, and || || the Euclidean norm. The maximum over all d
//! of at most R in every value of the normalised image (0.02 by default) is estimated from 10 samples, uniform in that cube,
//! the same for every image. The target class stays that of the clean image.
//!
//! A constant map has sensitivity 0: read it together with a faithfulness metric. The maps under measurement must be the
//! explainer's own. Undefined without the explainer, for a map of zeros, and where a map of a perturbed image is not finite.
//!
//! Cost: 10 explanations; a learned explainer needs one forward pass for each.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use explainer_zoo::random::stream;
use rand::Rng;

use crate::image_batch::select;
use crate::{Direction, Family, ImageBatch, Metric, MetricError, MetricInput, MetricSpec, ModelState, Requirement};

/// Default radius R: that of captum's `sensitivity_max`.
pub(crate) const RADIUS: f64 = 0.02;
/// Number of perturbed images.
const SAMPLES: usize = 10;

/// Max-sensitivity.
#[derive(Clone, Debug)]
pub(crate) struct MaxSensitivity {
    /// Largest change of a normalised value.
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
            title: format!("max-sensitivity to changes of up to {} of a normalised value", self.radius),
            family: Family::Robustness,
            better: Direction::Lower,
            unit: "fraction",
            range: [0.0, f64::INFINITY],
            source: "Yeh et al., 2019",
            passes: SAMPLES,
            needs: Requirement::Explainer,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let batch = attributions.batch();
        // All samples of image 0 first, then those of image 1, and so on: shared by all maps of the image.
        let images: Vec<usize> = (0..batch.len()).flat_map(|image| [image; SAMPLES]).collect();
        let classes: Vec<usize> = images.iter().filter_map(|image| batch.classes().get(*image).copied()).collect();
        let noise = noise(batch, self.radius);
        let perturbed = attributions.explain(&classes, ModelState::Trained, |range| {
            let samples: Vec<usize> = range.clone().map(|at| at % SAMPLES).collect();
            batch.select(&images[range]) + select(&noise, &samples)
        })?;
        let Some(perturbed) = perturbed else { return Ok(vec![None; attributions.len()]) };
        let perturbed = MetricInput::for_images(batch, perturbed, images)?;
        let (maps, finite): (Vec<&[f32]>, &[bool]) = (perturbed.maps().collect(), perturbed.finite());
        let value = |(map, image): (&[f32], &usize)| {
            let range = image * SAMPLES..(image + 1) * SAMPLES;
            let (maps, finite) = (maps.get(range.clone())?, finite.get(range)?);
            let norm = norm(map.iter().map(|value| f64::from(*value)));
            let change = |other: &&[f32]| self::norm(map.iter().zip(*other).map(|(a, b)| f64::from(a - b)));
            let largest = maps.iter().map(change).fold(0.0, f64::max);
            (norm > 0.0 && finite.iter().all(|finite| *finite)).then(|| largest / norm)
        };
        Ok(attributions.maps().zip(attributions.image_indices()).map(value).collect())
    }
}

/// Perturbations `[SAMPLES,3,H,W]`, uniform in -radius..radius.
fn noise(batch: &ImageBatch<'_>, radius: f64) -> Rc<Tensor<4>> {
    batch.cache().get_or_compute(&format!("max-sensitivity {radius}"), || {
        let [height, width] = batch.size();
        let mut random = stream(0, "max-sensitivity", &[]);
        let mut uniform = |_| ((f64::from(random.next_u32()) + 0.5) / 2_147_483_648.0 - 1.0) * radius;
        let values: Vec<f32> = (0..SAMPLES * 3 * height * width).map(&mut uniform).map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [SAMPLES, 3, height, width]), &batch.device())
    })
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, brightness, constant, explainer, image, map};

    #[test]
    fn the_map_of_an_identity_explainer_changes_as_the_image_does() {
        let backbone = brightness();
        let pixels = [0.5, 0.25, 0.75, 1.0];
        let batch = batch(&backbone, image(&pixels, [2, 2]));
        let own = explainer(0, |image: Tensor<4>, _, _| image.narrow(1, 0, 1));
        let noise: Vec<f32> = noise(&batch, 0.1).to_data().iter().collect();
        assert!(noise.iter().all(|value| value.abs() <= 0.1) && noise.iter().any(|value| value.abs() > 0.09));
        // The first channel's noise of each sample, over the norm of the map.
        let expected =
            noise.chunks(12).map(|sample| norm(sample[..4].iter().map(|value| f64::from(*value)))).fold(0.0, f64::max)
                / norm(pixels.iter().map(|value| f64::from(*value)));
        let maps = Tensor::cat(vec![map(&pixels, [2, 2]), map(&[0.0; 4], [2, 2])], 0);
        let attributions = MetricInput::for_images(&batch, maps, vec![0, 0]).unwrap().with_explainer(&own);
        let found = MaxSensitivity { radius: 0.1 }.measure(&attributions).unwrap();
        assert!((found[0].unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        assert_eq!(found[1], None, "a map without mass");
    }

    #[test]
    fn a_constant_explainer_is_insensitive_and_a_broken_one_undefined() {
        let backbone = brightness();
        let maps = map(&[0.5; 4], [2, 2]);
        let measured = |value: f32| {
            let own = explainer(0, move |image, _, _| constant(image, value));
            let batch = batch(&backbone, image(&[0.5; 4], [2, 2]));
            let attributions = MetricInput::new(&batch, maps.clone()).unwrap().with_explainer(&own);
            MaxSensitivity { radius: RADIUS }.measure(&attributions).unwrap()
        };
        assert_eq!(measured(0.5), [Some(0.0)]);
        assert_eq!(measured(f32::NAN), [None]);
    }
}
