//! Completeness and soundness (Gupta et al., 2022): a mask is a certificate for its class. It should hold what the class
//! needs, and there should be no certificates for classes that are not there.
//!
//! The masked image x~_c is the un-normalised image times the map of class c; p_c(x) is the softmax score of class c.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `completeness` | min(1, p_t(x~_t) / p_t(x)), t the explained class | fraction | 0..1 | higher |
//! | `soundness` | min over c of min(1, p_c(x) / p_c(x~_c)), c the classes but t among the five most probable of x | fraction | 0..1 | higher |
//!
//! `completeness` is 1 - `adp` / 100. `soundness` is 1 where no wrong class's map raises that class's score, and 0.01
//! where one raises it a hundredfold, however small it was: a strict worst case. To be read together: a map of ones is
//! perfectly complete and perfectly sound and says nothing, and an empty mask is judged by what the classifier makes of
//! black.
//!
//! The explainer draws the wrong classes' maps itself, so `soundness` is a property of it and not of the map under
//! measurement. Undefined without it, for an explainer whose map of a wrong class is not finite, and for a classifier of
//! one class.
//!
//! Cost: `completeness` 1 forward pass, which it shares with `ad@100`; `soundness` 4 explanations and 4 forward passes.

use super::masked::{confidences, mask};
use super::{Attributions, Better, Metric, MetricError, MetricSpec, ModelState, Needs};

/// Most probable classes among which the wrong ones are.
const TOP: usize = 5;

/// The share of its score that the explained class keeps.
#[derive(Clone, Debug)]
pub(super) struct Completeness;

/// How little masks for wrong classes raise their scores.
#[derive(Clone, Debug)]
pub(super) struct Soundness;

impl Metric for Completeness {
    fn spec(&self) -> MetricSpec {
        spec("completeness", "completeness, share of the score that the masked image keeps", 1, Needs::Nothing)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let kept = |(map, score): (usize, &f32)| Some(ratio(*score, case.clean(map).score));
        Ok(confidences(case, 100.0).iter().enumerate().map(kept).collect())
    }
}

impl Metric for Soundness {
    fn spec(&self) -> MetricSpec {
        let title = "soundness, the least share of its masked image's score that a wrong class has";
        spec("soundness", title, 2 * (TOP - 1), Needs::Explainer)
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let worst = worst(case)?;
        Ok(case.images().iter().map(|image| worst.get(*image).copied().flatten()).collect())
    }
}

fn spec(name: &str, title: &str, passes: usize, needs: Needs) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        title: title.into(),
        better: Better::Higher,
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

/// The worst class's ratio of each image.
fn worst(case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
    let subject = case.subject();
    let (mut of, mut classes) = (Vec::new(), Vec::new());
    for image in 0..subject.len() {
        for class in subject.top(image, TOP).into_iter().filter(|class| subject.classes().get(image) != Some(class)) {
            of.push(image);
            classes.push(class);
        }
    }
    let Some(maps) = case.explain(&classes, ModelState::Trained, |range| subject.pick(&of[range]))? else {
        return Ok(vec![None; subject.len()]);
    };
    let masks = Attributions::of(subject, maps, of.clone())?;
    let maps: Vec<&[f32]> = masks.maps().collect();
    let scores = subject.scores(&classes, |range| mask(subject, &of[range.clone()], maps[range].concat()));
    let mut worst = vec![None; subject.len()];
    let mut broken = vec![false; subject.len()];
    for (((image, class), masked), sound) in of.iter().zip(&classes).zip(scores).zip(masks.sound()) {
        let value = ratio(subject.score(*image, *class), masked);
        worst[*image] = Some(worst[*image].map_or(value, |worst: f64| worst.min(value)));
        broken[*image] |= !sound;
    }
    Ok(worst.into_iter().zip(broken).map(|(worst, broken)| worst.filter(|_| !broken)).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::super::testing::{Brightness, drawn, image, map, shade, subject};
    use super::*;

    #[test]
    fn completeness_is_what_the_mask_keeps() {
        let backbone = Brightness::new();
        let subject = subject(&backbone, image(&[0.8, 0.8, 0.4, 0.4], [2, 2])); // p = 0.6
        let maps = Tensor::cat(vec![map(&[1.0, 0.5, 0.25, 0.0], [2, 2]), map(&[1.0; 4], [2, 2])], 0);
        let case = Attributions::of(&subject, maps, vec![0, 0]).unwrap();
        let found = Completeness.measure(&case).unwrap();
        assert!((found[0].unwrap() - 0.325 / 0.6).abs() < 1e-5 && (found[1].unwrap() - 1.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn soundness_is_lost_where_a_wrong_class_gains() {
        let backbone = Brightness::new();
        // Class 1 is darkness: its score is 1 - the mean, 0.4 for the image and 0.7 for its half. Twice the same image,
        // and one that is all black: of a score of 1 nothing can be gained.
        let images = vec![image(&[0.6; 4], [2, 2]), image(&[0.6; 4], [2, 2]), image(&[0.0; 4], [2, 2])];
        let half = drawn(0, |image, class, _| shade(image, if class == 1 { 0.5 } else { 1.0 }));
        let images = subject(&backbone, Tensor::cat(images, 0));
        let case = || Attributions::new(&images, Tensor::ones([3, 1, 2, 2], &images.device())).unwrap();
        assert_eq!(Soundness.measure(&case()).unwrap(), [None; 3], "without an explainer");
        let found = Soundness.measure(&case().with_explainer(&half)).unwrap();
        for (found, expected) in found.iter().zip([0.4 / 0.7, 0.4 / 0.7, 1.0]) {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{found:?} {expected}");
        }
    }
}
