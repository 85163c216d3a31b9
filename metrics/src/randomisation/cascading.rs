//! Sanity check by cascading randomisation (Adebayo et al., 2018): does the map change when the classifier's weights become
//! random? Quantus calls it MPRT, model parameter randomisation test.
//!
//! The classifier's weights are replaced by random ones from the logits towards the image, in four stages: at least the
//! last 25, 50, 75 and 100 percent of its tensors, in whole blocks. At each stage the explainer computes the map of the same
//! image and target class again.
//!
//! | metric | definition, for one image | unit | range | better |
//! |---|---|---|---|---|
//! | `sanity-ssim[@STAGE]` | structural similarity (Wang et al., 2004) of the map before and after, mean over the stages | none | -1..1 | lower |
//! | `sanity-spearman[@STAGE]` | rank correlation of their pixels, mean over the stages | none | -1..1 | lower |
//!
//! `@1` to `@4` measure at that stage alone: together they show the cascade. The maps are compared at the image's size.
//! SSIM: Gaussian window of 11 pixels and standard deviation 1.5, constants 0.01² and 0.03², mean over the windows that lie
//! inside; undefined for images with fewer than 11 rows or columns. Spearman: pixels of equal value share their mean rank; a
//! constant map has no ranking, and the correlation with a map that is constant after randomisation counts as 0. Undefined
//! for a map that is constant before (Spearman), where a map after is not finite, and without the explainer.
//!
//! For learned explainers: the trained head keeps its weights, since it is the explainer and not the model explained. A head
//! that reads early taps cannot react to the randomisation of the layers behind them (similarity 1 at those stages). P-TAME
//! reads its auxiliary network only and never reacts: its similarity is always 1, and it fails the check by construction.
//!
//! Cost: one explanation for each stage, shared by both metrics; a learned explainer needs one forward pass for each. The
//! four classifiers are in memory at once.

use std::rc::Rc;

use crate::agreement::{spearman, ssim};
use crate::{Direction, Family, Metric, MetricError, MetricInput, MetricSpec, ModelState, Requirement};

/// Shares of the classifier's tensors that are random, stage by stage.
pub const CASCADE: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// How two maps are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Similarity {
    /// Structural similarity.
    Ssim,
    /// Rank correlation.
    Spearman,
}

/// Similarity of the map before and after randomisation.
#[derive(Clone, Debug)]
pub(crate) struct CascadingRandomisation {
    pub similarity: Similarity,
    /// Stage from 0; `None` for the mean over all.
    pub stage: Option<usize>,
}

impl CascadingRandomisation {
    fn stages(&self) -> Vec<usize> {
        self.stage.map_or_else(|| (0..CASCADE.len()).collect(), |stage| vec![stage])
    }
}

impl Metric for CascadingRandomisation {
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
            family: Family::Randomisation,
            better: Direction::Lower,
            unit: "none",
            range: [-1.0, 1.0],
            source: "Adebayo et al., 2018",
            passes: self.stages().len(),
            needs: Requirement::Randomised,
        }
    }

    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let (batch, stages) = (attributions.batch(), self.stages());
        let [_, width] = batch.size();
        let mut sums: Vec<Option<f64>> = vec![Some(0.0); attributions.len()];
        for stage in &stages {
            let key = format!("sanity {stage}");
            let after: Rc<Result<_, _>> =
                attributions.cache().get_or_compute(&key, || maps_at_stage(attributions, *stage));
            let Some(after) = after.as_ref().as_ref().map_err(Clone::clone)? else {
                return Ok(vec![None; attributions.len()]);
            };
            for ((map, image), sum) in attributions.maps().zip(attributions.image_indices()).zip(&mut sums) {
                let after = after.get(*image).and_then(Option::as_deref);
                let similarity = after.and_then(|after| match self.similarity {
                    Similarity::Ssim => ssim(map, after, width),
                    Similarity::Spearman => spearman(map, after),
                });
                *sum = sum.zip(similarity).map(|(sum, similarity)| sum + similarity);
            }
        }
        Ok(sums.into_iter().map(|sum| sum.map(|sum| sum / stages.len() as f64)).collect())
    }
}

/// Upsampled maps of all images; `None` for a map that is not finite.
type StageMaps = Vec<Option<Vec<f32>>>;

/// The explainer's maps at a stage; `None` where the explainer does not have that stage.
fn maps_at_stage(attributions: &MetricInput<'_>, stage: usize) -> Result<Option<StageMaps>, MetricError> {
    let batch = attributions.batch();
    let all: Vec<usize> = (0..batch.len()).collect();
    let model = ModelState::Randomised(stage);
    let maps = attributions.explain(batch.classes(), model, |range| batch.select(&all[range]))?;
    let Some(maps) = maps else { return Ok(None) };
    let after = MetricInput::new(batch, maps)?;
    Ok(Some(after.maps().zip(after.finite()).map(|(map, finite)| finite.then(|| map.to_vec())).collect()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::testing::{batch, brightness, constant, explainer, image, map};

    const SIDE: usize = 12;

    fn ramp() -> Vec<f32> {
        (0..SIDE * SIDE).map(|i| i as f32 / (SIDE * SIDE - 1) as f32).collect()
    }

    fn measured(attributions: &MetricInput<'_>, similarity: Similarity, stage: Option<usize>) -> Option<f64> {
        CascadingRandomisation { similarity, stage }.measure(attributions).unwrap()[0]
    }

    #[test]
    fn the_value_is_the_similarity_of_the_stages_maps() {
        let backbone = brightness();
        // Stage by stage the map stays, stays, is inverted, becomes constant.
        let stages = |image: Tensor<4>, _, model: ModelState| {
            let same = image.clone().narrow(1, 0, 1);
            match model {
                ModelState::Trained | ModelState::Randomised(0 | 1) => same,
                ModelState::Randomised(2) => same.neg().add_scalar(1.0),
                ModelState::Randomised(_) => constant(image, 0.5),
            }
        };
        let own = explainer(4, stages);
        let batch = batch(&backbone, image(&ramp(), [SIDE; 2]));
        let attributions = MetricInput::new(&batch, map(&ramp(), [SIDE; 2])).unwrap().with_explainer(&own);
        for (stage, expected) in [1.0, 1.0, -1.0, 0.0].into_iter().enumerate() {
            let found = measured(&attributions, Similarity::Spearman, Some(stage)).unwrap();
            assert!((found - expected).abs() < 1e-9, "{stage}: {found}");
        }
        assert!((measured(&attributions, Similarity::Spearman, None).unwrap() - 0.25).abs() < 1e-9);
        let ssim: Vec<f64> =
            (0..4).filter_map(|stage| measured(&attributions, Similarity::Ssim, Some(stage))).collect();
        assert!((ssim[0] - 1.0).abs() < 1e-9 && ssim[2] < 0.0 && ssim[3] < 0.9, "{ssim:?}");
        let all = measured(&attributions, Similarity::Ssim, None).unwrap();
        assert!((all - ssim.iter().sum::<f64>() / 4.0).abs() < 1e-9);
    }

    #[test]
    fn without_stages_or_finite_maps_the_value_is_undefined() {
        let backbone = brightness();
        let [without_stages, broken] = [0, 4].map(|stages| explainer(stages, |image, _, _| constant(image, f32::NAN)));
        let batch = batch(&backbone, image(&ramp(), [SIDE; 2]));
        let attributions = || MetricInput::new(&batch, map(&ramp(), [SIDE; 2])).unwrap();
        for attributions in
            [attributions(), attributions().with_explainer(&without_stages), attributions().with_explainer(&broken)]
        {
            assert_eq!(measured(&attributions, Similarity::Spearman, None), None);
        }
    }
}
