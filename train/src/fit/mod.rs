//! Fitting an explainer: schedules, optimizers, gradient clipping.

pub mod clip;
pub mod optimizer;
pub mod schedule;
