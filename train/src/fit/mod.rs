//! Fitting an explainer: schedules, optimizers, gradient clipping.

pub mod clip;
pub mod context;
pub mod optimizer;
pub mod schedule;
pub mod trainee;
