//! Faithfulness: does the map show what the classifier uses? Pixels are kept, removed or shown by their map values, and the
//! classifier's score is observed.

mod completeness_soundness;
mod infidelity;
mod information_curves;
mod insertion_deletion;
mod masked_confidence;
mod perturbation;
mod road;
mod saliency_metric;

pub(crate) use completeness_soundness::{Completeness, Soundness};
pub(crate) use infidelity::{Infidelity, SQUARES};
pub(crate) use information_curves::{Aic, Sic};
pub(crate) use insertion_deletion::{Deletion, Insertion, STEPS, StartBlur};
pub use masked_confidence::{Confidence, MaskedConfidence, Summary};
pub(crate) use masked_confidence::{ConfidenceChange, MaskedConfidenceMetric};
pub(crate) use perturbation::{Neg, Pos};
pub(crate) use road::{Imputer, Percentages, RemovalOrder, Road};
pub(crate) use saliency_metric::Ssr;
