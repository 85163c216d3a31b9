//! Any explainer as metrics use it to request further maps.

use std::sync::Arc;

use burn::tensor::Tensor;
use explainer_metrics::{ExplainFn, MetricError, ModelState};
use explainer_zoo::explain::{Explain, ExplainBatch};

/// An explainer, and the same explainer of classifiers that are randomised stage by stage.
#[derive(Clone, Copy, Debug)]
pub struct ExplainerFn<'a> {
    /// The explainer of the classifier as it is.
    pub explainer: &'a dyn Explain,
    /// The explainer at each stage of the cascading randomisation; empty if no metric needs it.
    pub randomised: &'a [Arc<dyn Explain>],
}

impl ExplainFn for ExplainerFn<'_> {
    fn explain(&self, images: Tensor<4>, classes: &[usize], model: ModelState) -> Result<Tensor<4>, MetricError> {
        let explainer = match model {
            ModelState::Trained => self.explainer,
            ModelState::Randomised(stage) => self.randomised.get(stage).map_or(self.explainer, AsRef::as_ref),
        };
        let batch = ExplainBatch::from_normalised(images, explainer.preprocessing());
        let classes: Vec<Vec<usize>> = classes.iter().map(|class| vec![*class]).collect();
        let made = explainer.maps(&batch, &classes);
        made.map(|(maps, _)| maps).map_err(|error| MetricError::Explain(error.to_string()))
    }

    fn stages(&self) -> usize {
        self.randomised.len()
    }
}
