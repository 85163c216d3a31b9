//! Explainers by metrics on one set of images, all of one classifier: `explainer-train compare`.
//!
//! [`run`] opens the explainers ([`ComparedExplainer`]), after training those whose run has left no artifact yet, and measures
//! one after the other. What is measured goes batch by batch into a [`Journal`] for each explainer, so that a run that was
//! stopped goes on where it was; [`Report`] is made from the journals alone, as text, Markdown, JSON and one HTML page.
//! In the output folder:
//!
//! | | |
//! |---|---|
//! | `report.html`, `report.md`, `report.json` | the report |
//! | `results/NAME.csv` | values of each image, as `evaluate --csv` writes them |
//! | `results/NAME.jsonl` | the journal |
//! | `gallery/NAME/N.jpg` | the map of image N of the set over it, for the images of the gallery |
//!
//! [`closing`] is the shorter comparison at the end of a training run.

mod classifier;
pub mod closing;
mod error;
mod explainers;
mod gallery;
mod journal;
mod measure;
mod page;
mod report;
mod run;
mod sample;
mod text;
mod trained;

pub use classifier::ComparedClassifier;
pub use error::CompareError;
pub use explainers::ComparedExplainer;
pub use gallery::{Case as GalleryCase, Gallery};
pub use journal::{Entry, Fingerprint, Journal, Measured};
pub use report::{Curves, Explainer, PerImage, Report, Setting, Skipped};
pub use run::{Outcome, run};
