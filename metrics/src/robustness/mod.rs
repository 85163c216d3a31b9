//! Robustness: does the map stay when the image hardly changes?

mod max_sensitivity;

pub(crate) use max_sensitivity::{MaxSensitivity, RADIUS};
