//! What `evaluate` measures on: files, or the quickstart's scenes.

use super::BadUsage;
use crate::data::shapes::{SIDE, Split};
use crate::data::{DataError, FileSet, ImageSet, Objects, Scenes, Truth};
use explainer_zoo::image::{Crop, Preprocessing};
use std::path::Path;
use std::sync::Arc;

/// Scenes of `shapes`, where no number is given.
const SCENES: usize = 256;

/// What is measured on.
pub(super) enum Images {
    Files(Arc<FileSet>),
    Scenes(Arc<Scenes>),
}

impl Images {
    /// The scenes if `path` is `shapes[:N]`, else the files there.
    pub(super) fn open(path: &Path, preprocessing: &Preprocessing) -> anyhow::Result<Self> {
        let Some(count) = scenes(path) else {
            return Ok(Self::Files(Arc::new(FileSet::open(path, preprocessing.clone())?)));
        };
        if preprocessing.crop != SIDE {
            let side = preprocessing.crop;
            return Err(BadUsage(format!(
                "--images: scenes have {SIDE} x {SIDE} pixels, this explainer's images {side} x {side}"
            ))
            .into());
        }
        Ok(Self::Scenes(Arc::new(Scenes::new(Split::Fresh, count?, 0))))
    }

    /// As a loader takes it.
    pub(super) fn any(&self) -> Arc<dyn ImageSet> {
        match self {
            Self::Files(set) => set.clone(),
            Self::Scenes(set) => set.clone(),
        }
    }

    /// What is known of an image apart from its pixels.
    pub(super) fn truth(
        &self,
        index: usize,
        objects: &Objects,
        preprocessing: &Preprocessing,
    ) -> Result<Truth, DataError> {
        match self {
            Self::Files(set) => objects.truth(&set.id(index), &set.path(index), preprocessing),
            Self::Scenes(set) => Ok(Truth::of_mask(set.object(index, Crop::Centre).unwrap_or_default(), SIDE)),
        }
    }
}

/// The number in `shapes` or `shapes:N`, unless a file or folder of this name is meant.
pub(super) fn scenes(path: &Path) -> Option<Result<usize, BadUsage>> {
    let text = path.to_str().filter(|_| !path.exists())?;
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let wrong = |count: &str| BadUsage(format!("--images: found `{count}` scenes, expected a whole number, 1 or more"));
    (name == "shapes").then(|| match count {
        None => Ok(SCENES),
        Some(count) => count.parse().ok().filter(|count| *count > 0).ok_or_else(|| wrong(count)),
    })
}
