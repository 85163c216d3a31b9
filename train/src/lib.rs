//! Trains learned explainers against frozen image classifiers: the library behind `explainer-train`.

pub mod cli;
pub mod compare;
pub mod config;
pub mod data;
pub mod distributed;
pub mod evaluation;
pub mod explain;
pub mod fit;
pub mod report;
