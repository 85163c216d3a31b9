//! Images from wherever a configuration says they are.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::image::Preprocessing;

use super::{DataError, FileSet, ImageSet, ShardSet};

/// The images of a folder, a list file, a single photograph, or of tar files.
///
/// # Errors
/// Those of [`FileSet::open`] and [`ShardSet::open`].
pub fn open(place: &Path, preprocessing: &Preprocessing) -> Result<Arc<dyn ImageSet>, DataError> {
    Ok(match ShardSet::is_meant(place) {
        true => Arc::new(ShardSet::open(place, preprocessing.clone())?),
        false => Arc::new(FileSet::open(place, preprocessing.clone())?),
    })
}
