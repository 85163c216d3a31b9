//! Localisation: does the map lie on the object? The maps are compared with boxes and masks of the ground truth.

mod localisation_error;
mod pointing;

pub(crate) use localisation_error::LocalisationError;
pub(crate) use pointing::Pointing;
