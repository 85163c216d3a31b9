//! Randomisation: does the map change when the classifier's weights become random?

mod cascading;

pub use cascading::CASCADE;
pub(crate) use cascading::{CascadingRandomisation, Similarity};
