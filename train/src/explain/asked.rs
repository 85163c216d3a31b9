//! Explainers that metrics ask for further maps.

use burn::tensor::Tensor;
use explainer_attribution::AttributionMethod;
use explainer_zoo::backbone::Backbone;

use super::LoadedExplainer;
use explainer_metrics::{ExplainFn, MetricError, ModelState};

/// An explainer under measurement, and the same before classifiers of which ever more is random.
#[derive(Clone, Copy, Debug)]
pub struct LearnedExplainFn<'a> {
    /// The explainer.
    pub trained: &'a LoadedExplainer,
    /// [`LoadedExplainer::randomised`]'s, or nothing if no metric needs it.
    pub randomised: &'a [LoadedExplainer],
}

impl ExplainFn for LearnedExplainFn<'_> {
    fn explain(&self, images: Tensor<4>, classes: &[usize], sight: ModelState) -> Result<Tensor<4>, MetricError> {
        let loaded = match sight {
            ModelState::Trained => self.trained,
            ModelState::Randomised(stage) => self.randomised.get(stage).unwrap_or(self.trained),
        };
        let pixels = loaded.artifact.config.preprocessing.unnormalise(images.clone());
        let features = loaded.see(images.clone(), pixels).features;
        Ok(loaded.draw(&images, &features, &classes.iter().map(|class| vec![*class]).collect::<Vec<_>>()))
    }

    fn stages(&self) -> usize {
        self.randomised.len()
    }
}

/// A method without training under measurement, and the classifiers that it may be asked about.
#[derive(Clone, Debug)]
pub struct MethodExplainFn<'a> {
    /// The method.
    pub method: &'a dyn AttributionMethod,
    /// The classifier.
    pub trained: &'a dyn Backbone,
    /// The same with ever more of it random, or nothing if no metric needs it.
    pub randomised: Vec<&'a dyn Backbone>,
}

impl ExplainFn for MethodExplainFn<'_> {
    fn explain(&self, images: Tensor<4>, classes: &[usize], sight: ModelState) -> Result<Tensor<4>, MetricError> {
        let backbone = match sight {
            ModelState::Trained => self.trained,
            ModelState::Randomised(stage) => self.randomised.get(stage).copied().unwrap_or(self.trained),
        };
        let found = self.method.explain(backbone, &images, classes);
        found.map(|found| found.maps).map_err(|error| MetricError::Explain(error.to_string()))
    }

    fn stages(&self) -> usize {
        self.randomised.len()
    }
}
