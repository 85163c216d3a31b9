//! Images to measure on: files, tar files, or the quickstart's scenes.

use std::path::Path;
use std::sync::Arc;

use explainer_zoo::image::{Crop, Preprocessing};

use super::shapes::{SIDE, Split};
use super::{DataError, FileSet, ImageSet, Objects, Scenes, ShardSet};
use explainer_metrics::GroundTruth;

/// Scenes of `shapes`, where no number is given.
const SCENES: usize = 256;

/// What is measured on.
#[derive(Clone, Debug)]
pub enum Images {
    /// Photographs.
    Files(Arc<FileSet>),
    /// Photographs in tar files.
    Shards(Arc<ShardSet>),
    /// The quickstart's scenes, whose objects are known.
    Scenes(Arc<Scenes>),
}

impl Images {
    /// The scenes if `path` is `shapes[:N]`, else the files there or in the tar files.
    ///
    /// # Errors
    /// Those of [`FileSet::open`] and [`ShardSet::open`]; [`DataError::SceneCount`], [`DataError::SceneSide`].
    pub fn open(path: &Path, preprocessing: &Preprocessing) -> Result<Self, DataError> {
        if ShardSet::is_meant(path) {
            return Ok(Self::Shards(Arc::new(ShardSet::open(path, preprocessing.clone())?)));
        }
        let Some(count) = scenes(path) else {
            return Ok(Self::Files(Arc::new(FileSet::open(path, preprocessing.clone())?)));
        };
        if preprocessing.crop != SIDE {
            return Err(DataError::SceneSide { scenes: SIDE, images: preprocessing.crop });
        }
        Ok(Self::Scenes(Arc::new(Scenes::new(Split::Fresh, count?, 0))))
    }

    /// As a loader takes it.
    #[must_use]
    pub fn any(&self) -> Arc<dyn ImageSet> {
        match self {
            Self::Files(set) => set.clone(),
            Self::Shards(set) => set.clone(),
            Self::Scenes(set) => set.clone(),
        }
    }

    /// What is known of an image apart from its pixels.
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

/// The number in `shapes` or `shapes:N`, unless a file or folder of this name is meant.
pub(crate) fn scenes(path: &Path) -> Option<Result<usize, DataError>> {
    let text = path.to_str().filter(|_| !path.exists())?;
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let wrong = |count: &str| DataError::SceneCount { found: count.into() };
    (name == "shapes").then(|| match count {
        None => Ok(SCENES),
        Some(count) => count.parse().ok().filter(|count| *count > 0).ok_or_else(|| wrong(count)),
    })
}
