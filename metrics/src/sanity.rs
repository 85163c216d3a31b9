//! Sanity check by cascading randomisation (Adebayo et al., 2018): does a map still look the same when the classifier that
//! it explains is random?
//!
//! The classifier's weights are replaced by random ones from the logits towards the image, in four stages: at least the
//! last 25, 50, 75 and 100 percent of its tensors in whole blocks. At each the explainer draws the map of the same image
//! and class again.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `sanity-ssim[@STAGE]` | structural similarity (Wang et al., 2004) of the map before and after, mean over the stages | none | -1..1 | lower |
//! | `sanity-spearman[@STAGE]` | rank correlation of their pixels, mean over the stages | none | -1..1 | lower |
//!
//! With `@1` to `@4` it is that stage's alone: four of them show the cascade. Maps are compared at the image's size,
//! as they are shown. SSIM: Gaussian window of 11 pixels and standard deviation 1.5, constants 0.01² and 0.03², mean over
//! windows that lie inside; undefined for images with fewer than 11 rows or columns. Spearman: pixels of equal value share
//! their mean rank; a constant map's order says nothing, and the correlation with one after randomisation counts as 0.
//! Undefined for a map that is constant before (Spearman), where a map after is not finite, and without the explainer.
//!
//! What it says of learned explainers: the trained head stays as it is, since it is the explainer and not the model
//! explained. A head that looks at early taps therefore cannot react to the randomisation of what comes behind them
//! (similarity 1 at those stages), and P-TAME, which looks at its auxiliary only, never reacts: it has 1 throughout and
//! fails the check by construction.
//!
//! Cost: an explanation for each stage, for a learned explainer as many forward passes, which both metrics share. The four
//! classifiers are in memory at once.

use std::rc::Rc;

use super::similarity::{spearman, ssim};
use super::{Attributions, Better, Metric, MetricError, MetricSpec, ModelState, Needs};

/// Shares of the classifier's tensors that are random at each stage.
pub const CASCADE: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// How two maps are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Similarity {
    /// Structural similarity.
    Ssim,
    /// Rank correlation.
    Spearman,
}

/// Similarity before and after randomisation.
#[derive(Clone, Debug)]
pub(super) struct Sanity {
    pub similarity: Similarity,
    /// From 0; all stages if none is given.
    pub stage: Option<usize>,
}

impl Sanity {
    fn stages(&self) -> Vec<usize> {
        self.stage.map_or_else(|| (0..CASCADE.len()).collect(), |stage| vec![stage])
    }
}

impl Metric for Sanity {
    fn spec(&self) -> MetricSpec {
        let (stem, title) = match self.similarity {
            Similarity::Ssim => ("sanity-ssim", "structural similarity"),
            Similarity::Spearman => ("sanity-spearman", "rank correlation"),
        };
        let (name, when) = match self.stage {
            None => (stem.to_owned(), "the classifier's cascading randomisation".to_owned()),
            Some(stage) => {
                let share = CASCADE.get(stage).copied().unwrap_or(f64::NAN);
                (format!("{stem}@{}", stage + 1), format!("{}% of the classifier's tensors are random", 100.0 * share))
            }
        };
        MetricSpec {
            name,
            title: format!("{title} before and after {when}"),
            better: Better::Lower,
            unit: "none",
            range: [-1.0, 1.0],
            source: "Adebayo et al., 2018",
            passes: self.stages().len(),
            needs: Needs::Randomised,
        }
    }

    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let (subject, stages) = (case.subject(), self.stages());
        let [_, width] = subject.size();
        let mut sums: Vec<Option<f64>> = vec![Some(0.0); case.len()];
        for stage in &stages {
            let after: Rc<Result<_, _>> = case.memo().get(&format!("sanity {stage}"), || redrawn(case, *stage));
            let Some(after) = after.as_ref().as_ref().map_err(Clone::clone)? else {
                return Ok(vec![None; case.len()]);
            };
            for ((map, image), sum) in case.maps().zip(case.images()).zip(&mut sums) {
                let after = after.get(*image).and_then(Option::as_deref);
                let similar = after.and_then(|after| match self.similarity {
                    Similarity::Ssim => ssim(map, after, width),
                    Similarity::Spearman => spearman(map, after),
                });
                *sum = sum.zip(similar).map(|(sum, similar)| sum + similar);
            }
        }
        Ok(sums.into_iter().map(|sum| sum.map(|sum| sum / stages.len() as f64)).collect())
    }
}

/// A map for each image, at its size; none where it is not finite.
type Redrawn = Vec<Option<Vec<f32>>>;

/// The maps of a stage; nothing if they cannot be had.
fn redrawn(case: &Attributions<'_>, stage: usize) -> Result<Option<Redrawn>, MetricError> {
    let subject = case.subject();
    let all: Vec<usize> = (0..subject.len()).collect();
    let maps = case.explain(subject.classes(), ModelState::Randomised(stage), |range| subject.pick(&all[range]))?;
    let Some(maps) = maps else { return Ok(None) };
    let after = Attributions::new(subject, maps)?;
    Ok(Some(after.maps().zip(after.sound()).map(|(map, sound)| sound.then(|| map.to_vec())).collect()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::super::testing::{Brightness, drawn, image, map, shade, subject};
    use super::*;

    const SIDE: usize = 12;

    fn ramp() -> Vec<f32> {
        (0..SIDE * SIDE).map(|i| i as f32 / (SIDE * SIDE - 1) as f32).collect()
    }

    fn measured(case: &Attributions<'_>, similarity: Similarity, stage: Option<usize>) -> Option<f64> {
        Sanity { similarity, stage }.measure(case).unwrap()[0]
    }

    #[test]
    fn a_stage_s_map_counts_by_how_similar_it_is() {
        let backbone = Brightness::new();
        // The map stays, stays, is turned about, becomes constant.
        let draw = |image: Tensor<4>, _, sight: ModelState| {
            let shown = image.clone().narrow(1, 0, 1);
            match sight {
                ModelState::Trained | ModelState::Randomised(0 | 1) => shown,
                ModelState::Randomised(2) => shown.neg().add_scalar(1.0),
                ModelState::Randomised(_) => shade(image, 0.5),
            }
        };
        let own = drawn(4, draw);
        let subject = subject(&backbone, image(&ramp(), [SIDE; 2]));
        let case = Attributions::new(&subject, map(&ramp(), [SIDE; 2])).unwrap().with_explainer(&own);
        for (stage, expected) in [1.0, 1.0, -1.0, 0.0].into_iter().enumerate() {
            let found = measured(&case, Similarity::Spearman, Some(stage)).unwrap();
            assert!((found - expected).abs() < 1e-9, "{stage}: {found}");
        }
        assert!((measured(&case, Similarity::Spearman, None).unwrap() - 0.25).abs() < 1e-9);
        let ssim: Vec<f64> = (0..4).filter_map(|stage| measured(&case, Similarity::Ssim, Some(stage))).collect();
        assert!((ssim[0] - 1.0).abs() < 1e-9 && ssim[2] < 0.0 && ssim[3] < 0.9, "{ssim:?}");
        let all = measured(&case, Similarity::Ssim, None).unwrap();
        assert!((all - ssim.iter().sum::<f64>() / 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_prepared_or_is_broken_is_undefined() {
        let backbone = Brightness::new();
        let [unprepared, broken] = [0, 4].map(|stages| drawn(stages, |image, _, _| shade(image, f32::NAN)));
        let subject = subject(&backbone, image(&ramp(), [SIDE; 2]));
        let case = || Attributions::new(&subject, map(&ramp(), [SIDE; 2])).unwrap();
        for case in [case(), case().with_explainer(&unprepared), case().with_explainer(&broken)] {
            assert_eq!(measured(&case, Similarity::Spearman, None), None);
        }
    }
}
