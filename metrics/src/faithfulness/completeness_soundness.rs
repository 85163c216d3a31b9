//! Completeness and soundness (Gupta et al., 2022): a masked image is a certificate for its class. It should contain what
//! the class needs, and no certificate should exist for classes that are not in the image.
//!
//! The masked image x~_c is the image before normalisation times the heat map of class c; p_c(x) is the softmax score of
//! class c.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `completeness` | min(1, p_t(x~_t) / p_t(x)), t the target class | fraction | 0..1 | higher |
//! | `soundness` | min over c of min(1, p_c(x) / p_c(x~_c)), c the classes but t among the five with the highest scores | fraction | 0..1 | higher |
//!
//! `completeness` is 1 - `adp` / 100. `soundness` is 1 where no wrong class's map raises the score of that class, and 0.01
//! where one raises it by a factor of 100, however small the score was: a strict worst case. Read them together: a map of
//! ones is perfectly complete and perfectly sound and says nothing; an empty map is judged by the scores of a black image.
//!
//! The explainer computes the maps of the wrong classes, so `soundness` is a property of the explainer and not of the map
//! under measurement. It is undefined without the explainer, for an explainer whose map of a wrong class is not finite, and
//! for a classifier of one class. Both are undefined where a score is not finite.
//!
//! Cost: `completeness` 1 forward pass, shared with `ad@100`; `soundness` 4 explanations and 4 forward passes.

use super::masked_confidence::{mask, masked_scores};
use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, ModelState, Requirement};

/// Number of classes with the highest scores that contain the wrong classes.
const TOP: usize = 5;

/// Completeness.
#[derive(Clone, Debug)]
pub(crate) struct Completeness;

/// Soundness.
#[derive(Clone, Debug)]
pub(crate) struct Soundness;

impl Metric for Completeness {
    fn spec(&self) -> MetricSpec {
        spec("completeness", "completeness, share of the score that the masked image keeps", 1, Requirement::Nothing)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let kept = |(map, masked): (usize, &Option<f32>)| Some(ratio((*masked)?, attributions.clean(map)?.score));
        Ok(masked_scores(attributions, 100.0).iter().enumerate().map(kept).collect())
    }
}

impl Metric for Soundness {
    fn spec(&self) -> MetricSpec {
        let title = "soundness, smallest ratio of a wrong class's clean score to its masked score";
        spec("soundness", title, 2 * (TOP - 1), Requirement::Explainer)
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let smallest = smallest_ratios(attributions)?;
        Ok(attributions.image_indices().iter().map(|image| smallest.get(*image).copied().flatten()).collect())
    }
}

fn spec(name: &str, title: &str, passes: usize, needs: Requirement) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        family: Family::Faithfulness,
        better: Direction::Higher,
        unit: "fraction",
        range: [0.0, 1.0],
        source: "Gupta et al., 2022",
        passes,
        needs,
    }
}

/// a / b, at most 1.
fn ratio(a: f32, b: f32) -> f64 {
    (f64::from(a) / f64::from(b).max(f64::MIN_POSITIVE)).min(1.0)
}

/// The smallest ratio over the wrong classes of each image; `None` where that of any class is undefined.
fn smallest_ratios(attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
    let batch = attributions.batch();
    let (mut images, mut classes) = (Vec::new(), Vec::new());
    for (image, target) in batch.classes().iter().enumerate() {
        for class in batch.top_classes(image, TOP).into_iter().filter(|class| class != target) {
            images.push(image);
            classes.push(class);
        }
    }
    let maps = attributions.explain(&classes, ModelState::Trained, |range| batch.select(&images[range]))?;
    let Some(maps) = maps else { return Ok(vec![None; batch.len()]) };
    let wrong = MetricInput::for_images(batch, maps, images.clone())?;
    let maps: Vec<&[f32]> = wrong.maps().collect();
    let scores = batch.scores(&classes, |range| mask(batch, &images[range.clone()], maps[range].concat()));
    let ratios =
        images.iter().zip(&classes).zip(scores).zip(wrong.finite()).map(|(((image, class), masked), finite)| {
            let clean = batch.score(*image, *class);
            let ratio = clean.zip(masked).map(|(clean, masked)| ratio(clean, masked));
            (*image, ratio.filter(|_| *finite))
        });
    let mut of_images: Vec<Vec<Option<f64>>> = vec![Vec::new(); batch.len()];
    ratios.for_each(|(image, ratio)| of_images[image].push(ratio));
    let smallest = |ratios: Vec<Option<f64>>| {
        let ratios: Vec<f64> = ratios.into_iter().collect::<Option<_>>()?;
        ratios.into_iter().reduce(f64::min)
    };
    Ok(of_images.into_iter().map(smallest).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::testing::{batch, brightness, constant, explainer, image, map};

    #[test]
    fn completeness_is_the_share_of_the_score_that_is_kept() {
        let backbone = brightness();
        let batch = batch(&backbone, image(&[0.8, 0.8, 0.4, 0.4], [2, 2])); // p = 0.6
        let maps = Tensor::cat(vec![map(&[1.0, 0.5, 0.25, 0.0], [2, 2]), map(&[1.0; 4], [2, 2])], 0);
        let attributions = MetricInput::for_images(&batch, maps, vec![0, 0]).unwrap();
        let found = Completeness.measure(&attributions).unwrap();
        assert!((found[0].unwrap() - 0.325 / 0.6).abs() < 1e-5 && (found[1].unwrap() - 1.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn soundness_is_lost_where_a_wrong_class_gains() {
        let backbone = brightness();
        // Class 1 is darkness: its score is 1 - the mean, 0.4 for the image and 0.7 for its half. Twice the same image,
        // and a black one, whose score of 1 cannot rise.
        let images = vec![image(&[0.6; 4], [2, 2]), image(&[0.6; 4], [2, 2]), image(&[0.0; 4], [2, 2])];
        let half = explainer(0, |image, class, _| constant(image, if class == 1 { 0.5 } else { 1.0 }));
        let batch = batch(&backbone, Tensor::cat(images, 0));
        let attributions = || MetricInput::new(&batch, Tensor::ones([3, 1, 2, 2], &batch.device())).unwrap();
        assert_eq!(Soundness.measure(&attributions()).unwrap(), [None; 3], "without an explainer");
        let found = Soundness.measure(&attributions().with_explainer(&half)).unwrap();
        for (found, expected) in found.iter().zip([0.4 / 0.7, 0.4 / 0.7, 1.0]) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        }
        let broken = explainer(0, |image, _, _| constant(image, f32::NAN));
        assert_eq!(Soundness.measure(&attributions().with_explainer(&broken)).unwrap(), [None; 3]);
    }
}
