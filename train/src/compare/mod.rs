//! Several explainers of one classifier, measured on one set of images: `explainer-train compare`.
//!
//! [`run`] trains the explainers that have no artifact yet, opens all of them ([`ComparedExplainer`]) and measures one after
//! the other with the [`Evaluator`](crate::evaluation::Evaluator). Each explainer has a [`Journal`] that receives its values
//! batch by batch, so that a comparison that was stopped continues where it was. The [`Report`] is computed from the
//! journals alone: as text, Markdown, JSON and one HTML page. The output folder holds:
//!
//! | | |
//! |---|---|
//! | `report.html`, `report.md`, `report.json` | the report |
//! | `results/NAME.csv` | values of each image, as `evaluate --csv` writes them |
//! | `results/NAME.jsonl` | the journal |
//! | `gallery/NAME/N.jpg` | the heat map over image N of the set, for the images of the gallery |
//!
//! [`run_summary`] is the short comparison at the end of a training run.

mod classifier;
mod error;
mod explainers;
mod gallery;
mod journal;
mod measure;
mod page;
mod report;
mod run;
pub mod run_summary;
mod sample;
mod text;
mod trained;

pub use classifier::ComparedClassifier;
pub use error::CompareError;
pub use explainers::ComparedExplainer;
pub use gallery::{Gallery, GalleryImage};
pub use journal::{Fingerprint, Journal, JournalEntry, JournalRow};
pub use report::{Curves, ExplainerReport, MeanCost, Report, Setting, UnreadableImage};
pub use run::{Outcome, run};
