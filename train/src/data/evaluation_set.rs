//! The images of an evaluation: files, tar shards or procedural scenes.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::image::{Crop, Preprocessing};

use super::shapes::{SIDE, Split};
use super::{DataError, FileSet, ImageSet, Objects, Scenes, ShardSet};
use explainer_metrics::GroundTruth;

/// Number of scenes of `shapes` without a number.
const DEFAULT_SCENES: usize = 256;

/// The images of an evaluation, with their ground truth.
#[derive(Clone, Debug)]
pub enum EvaluationSet {
    /// Image files.
    Files(Arc<FileSet>),
    /// EvaluationSet in tar shards.
    Shards(Arc<ShardSet>),
    /// Procedural scenes, whose object masks are known.
    Scenes(Arc<Scenes>),
}

impl EvaluationSet {
    /// Opens the scenes if `path` is `shapes` or `shapes:N`, else the files or tar shards at `path`.
    ///
    /// # Errors
    /// Those of [`FileSet::open`] and [`ShardSet::open`]; [`DataError::SceneCount`], [`DataError::SceneSide`].
    pub fn open(path: &Path, preprocessing: &Preprocessing) -> Result<Self, DataError> {
        if ShardSet::is_shard_pattern(path) {
            return Ok(Self::Shards(Arc::new(ShardSet::open(path, preprocessing.clone())?)));
        }
        let Some(count) = scene_count(path) else {
            return Ok(Self::Files(Arc::new(FileSet::open(path, preprocessing.clone())?)));
        };
        if preprocessing.crop != SIDE {
            return Err(DataError::SceneSide { scenes: SIDE, images: preprocessing.crop });
        }
        Ok(Self::Scenes(Arc::new(Scenes::new(Split::Fresh, count?, 0))))
    }

    /// The set as a loader takes it.
    #[must_use]
    pub fn any(&self) -> Arc<dyn ImageSet> {
        match self {
            Self::Files(set) => set.clone(),
            Self::Shards(set) => set.clone(),
            Self::Scenes(set) => set.clone(),
        }
    }

    /// The ground truth of image `index`: its object, in the pixels of the preprocessed image.
    ///
    /// # Errors
    /// Annotations that cannot be read.
    pub fn truth(
        &self,
        index: usize,
        objects: &Objects,
        preprocessing: &Preprocessing,
    ) -> Result<GroundTruth, DataError> {
        match self {
            Self::Files(set) => objects.truth(&set.id(index), &set.path(index), preprocessing),
            Self::Shards(set) => set.truth(index, objects),
            Self::Scenes(set) => Ok(GroundTruth::from_mask(set.object(index, Crop::Centre).unwrap_or_default(), SIDE)),
        }
    }
}

/// The number of scenes if `path` is `shapes` or `shapes:N` and no file or folder has this name.
pub(crate) fn scene_count(path: &Path) -> Option<Result<usize, DataError>> {
    let text = path.to_str().filter(|_| !path.exists())?;
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let wrong = |count: &str| DataError::SceneCount { found: count.into() };
    (name == "shapes").then(|| match count {
        None => Ok(DEFAULT_SCENES),
        Some(count) => count.parse().ok().filter(|count| *count > 0).ok_or_else(|| wrong(count)),
    })
}
