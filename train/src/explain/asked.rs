//! A trained explainer that metrics ask for further maps.

use burn::tensor::Tensor;

use super::Loaded;
use crate::metric::{MetricError, Redraw, Sight};

/// An explainer under measurement, and the same before classifiers of which ever more is random.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The explainer.
    pub trained: &'a Loaded,
    /// [`Loaded::randomised`]'s, or nothing if no metric needs it.
    pub randomised: &'a [Loaded],
}

impl Redraw for Asked<'_> {
    fn redraw(&self, images: Tensor<4>, classes: &[usize], sight: Sight) -> Result<Tensor<4>, MetricError> {
        let loaded = match sight {
            Sight::Trained => self.trained,
            Sight::Randomised(stage) => self.randomised.get(stage).unwrap_or(self.trained),
        };
        let pixels = loaded.artifact.config.preprocessing.unnormalise(images.clone());
        let features = loaded.see(images.clone(), pixels).features;
        Ok(loaded.draw(&images, &features, &classes.iter().map(|class| vec![*class]).collect::<Vec<_>>()))
    }

    fn stages(&self) -> usize {
        self.randomised.len()
    }
}
