//! Opens the images of a configuration: files or tar shards.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::image::Preprocessing;

use super::{DataError, FileSet, ImageSet, ShardSet};

/// Opens a folder, a list file, a single image, or tar shards.
///
/// # Errors
/// Those of [`FileSet::open`] and [`ShardSet::open`].
pub fn open(path: &Path, preprocessing: &Preprocessing) -> Result<Arc<dyn ImageSet>, DataError> {
    Ok(match ShardSet::is_shard_pattern(path) {
        true => Arc::new(ShardSet::open(path, preprocessing.clone())?),
        false => Arc::new(FileSet::open(path, preprocessing.clone())?),
    })
}
