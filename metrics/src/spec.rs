//! What a metric has to provide.

use std::fmt::Debug;
use std::rc::Rc;

use serde::Serialize;

use super::{Attributions, MetricError};

/// Which values are the better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Large ones.
    Higher,
    /// Small ones.
    Lower,
}

/// What a metric needs beside images, maps and the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Where its objects are.
    Objects,
    /// Where people look.
    Fixations,
    /// The explainer, to ask it again.
    Explainer,
    /// The explainer, also while the classifier is random in part.
    Randomised,
}

/// What is known of a metric without measuring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricSpec {
    /// Name on the command line, in CSV and in JSON, with its parameter: `ad@50`.
    pub name: String,
    /// In words.
    pub title: String,
    /// Direction.
    pub better: Better,
    /// Unit of the values.
    pub unit: &'static str,
    /// Smallest and largest value there can be.
    pub range: [f64; 2],
    /// Where it comes from.
    pub source: &'static str,
    /// Forward passes of the classifier for one map, beside the clean pass of its image, if no other metric has made
    /// them already.
    pub passes: usize,
    /// What else there must be. Images for which it is not there have no value.
    pub needs: Needs,
}

/// A measure of how good a heat map is.
pub trait Metric: Debug + Send + Sync {
    /// Name, direction, unit, range, source, cost.
    fn spec(&self) -> MetricSpec;

    /// One value for each map of the case, `None` where it is undefined. Maps that are not finite are shown to it as
    /// all zeros; [`Metric::measure`] drops what it makes of them.
    ///
    /// # Errors
    /// What keeps it from measuring at all.
    fn values(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError>;

    /// For a metric that is the area under a curve over the share of the pixels: the curve of each map, in its steps from
    /// none of the pixels to all. Made once for a case, together with the values.
    fn curves(&self, case: &Attributions<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        let _ = case;
        None
    }

    /// One value for each map of the case, in the order of its maps; `None` where the metric is undefined, where the
    /// map is not finite, and where the value would not be.
    ///
    /// # Errors
    /// As [`Metric::values`].
    fn measure(&self, case: &Attributions<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let values = self.values(case)?;
        Ok(values
            .into_iter()
            .zip(case.sound())
            .map(|(value, sound)| value.filter(|v| *sound && v.is_finite()))
            .collect())
    }
}
