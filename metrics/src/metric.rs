//! The trait [`Metric`], and what is known of a metric without computing it.

use std::fmt::{self, Debug};
use std::rc::Rc;

use serde::Serialize;

use crate::{MetricError, MetricInput};

/// What property of an explanation a metric measures. The first five are the categories of Quantus (Hedström et al.,
/// 2023); its sixth, the axiomatic metrics, has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Whether the map shows what the classifier uses.
    Faithfulness,
    /// Whether the map lies on the object.
    Localisation,
    /// Whether the map stays when the image hardly changes.
    Robustness,
    /// Whether the map changes when the classifier's weights become random.
    Randomisation,
    /// Whether the map is concentrated on few pixels.
    Complexity,
    /// Whether the map agrees with another one, or with people's fixations.
    Agreement,
}

impl Family {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 6] = [
        Self::Faithfulness,
        Self::Localisation,
        Self::Robustness,
        Self::Randomisation,
        Self::Complexity,
        Self::Agreement,
    ];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faithfulness => "faithfulness",
            Self::Localisation => "localisation",
            Self::Robustness => "robustness",
            Self::Randomisation => "randomisation",
            Self::Complexity => "complexity",
            Self::Agreement => "agreement",
        })
    }
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Large values.
    Higher,
    /// Small values.
    Lower,
}

/// What a metric needs beside images, heat maps and the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Nothing.
    Nothing,
    /// The objects' boxes or masks, in [`crate::GroundTruth`].
    Objects,
    /// Fixations of people, in [`crate::GroundTruth`].
    Fixations,
    /// The explainer, for further maps: [`MetricInput::with_explainer`].
    Explainer,
    /// The explainer, also for classifiers with random weights: [`crate::ModelState::Randomised`].
    Randomised,
}

/// What is known of a metric without computing it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricSpec {
    /// Name on the command line, in CSV and in JSON, with its parameter: `ad@50`.
    pub name: String,
    /// One line that describes it.
    pub title: String,
    /// What property it measures.
    pub family: Family,
    /// Which values are better.
    pub better: Direction,
    /// Unit of the values: `percent`, `fraction`, `nat`, ...
    pub unit: &'static str,
    /// Smallest and largest possible value.
    pub range: [f64; 2],
    /// Paper that defines it.
    pub source: &'static str,
    /// Forward passes of the classifier for one map, beside the clean pass of its image, unless another metric has cached
    /// them.
    pub passes: usize,
    /// What it needs beside images, maps and classifier. It is undefined for images without that.
    pub needs: Requirement,
}

/// A metric of heat maps.
pub trait Metric: Debug + Send + Sync {
    /// Name, family, direction, unit, range, source, cost.
    fn spec(&self) -> MetricSpec;

    /// One value for each map, in the order of the maps; `None` where the metric is undefined. Maps that are not finite
    /// appear as all zeros; [`Metric::measure`] makes their values `None`.
    ///
    /// # Errors
    /// A [`MetricError`] where nothing can be measured.
    fn values(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError>;

    /// For a metric that is the area under a curve: each map's scores at even steps of the share of pixels, from none to
    /// all of them. NaN where the score is undefined. `None` for other metrics. Cached together with the values.
    fn curves(&self, attributions: &MetricInput<'_>) -> Option<Rc<Vec<Vec<f64>>>> {
        let _ = attributions;
        None
    }

    /// One finite value for each map, in the order of the maps; `None` where the metric is undefined, where the map is not
    /// finite, and where the value would not be finite.
    ///
    /// # Errors
    /// As [`Metric::values`].
    fn measure(&self, attributions: &MetricInput<'_>) -> Result<Vec<Option<f64>>, MetricError> {
        let values = self.values(attributions)?;
        let finite = attributions.finite();
        Ok(values.into_iter().zip(finite).map(|(value, finite)| value.filter(|v| *finite && v.is_finite())).collect())
    }
}
