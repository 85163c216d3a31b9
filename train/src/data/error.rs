//! What can be wrong with images on disk.

use std::io;
use std::path::PathBuf;

use explainer_zoo::image::ImageError;
use thiserror::Error;

use super::Broken;

/// Why images could not be found, read or batched.
#[derive(Debug, Error)]
pub enum DataError {
    /// A folder or list does not exist or may not be read.
    #[error("{}: cannot read the images: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The folder or list.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing to read.
    #[error("{}: found no image; {expected}", path.display())]
    NoImages {
        /// The folder or list.
        path: PathBuf,
        /// What was looked for.
        expected: String,
    },
    /// A folder that is neither flat nor one sub-folder a class.
    #[error(
        "{}: holds images itself ({loose}, ...) and in sub-folders ({folder}/, ...); \
         expected either a flat folder or one sub-folder a class: move one of the two away",
        path.display()
    )]
    MixedFolder {
        /// The folder.
        path: PathBuf,
        /// An image in the folder itself.
        loose: String,
        /// A sub-folder with images.
        folder: String,
    },
    /// A line of a list that cannot be understood.
    #[error("{}:{line}: {problem}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// A tar file, or a pattern of tar files, that cannot be read.
    #[error("{}: {problem}", path.display())]
    Shard {
        /// The shard, or the pattern.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// Annotations of objects that cannot be understood.
    #[error("{}: {problem}", path.display())]
    Objects {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A number of scenes that is none.
    #[error("found `{found}` scenes, expected a whole number, 1 or more")]
    SceneCount {
        /// What was given.
        found: String,
    },
    /// Scenes for a classifier of other images.
    #[error("scenes have {scenes} x {scenes} pixels, this classifier's images {images} x {images}")]
    SceneSide {
        /// Side of a scene.
        scenes: usize,
        /// Side of the classifier's images.
        images: usize,
    },
    /// One image could not be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Loading one image panicked.
    #[error("{name}: the decoder panicked on this image; remove it, and please report it")]
    Panicked {
        /// The image.
        name: String,
    },
    /// The images of a set have different sizes.
    #[error("{name}: the image has {found} values, expected 3 x {height} x {width} as the images before it")]
    Size {
        /// The image.
        name: String,
        /// Number of values found.
        found: usize,
        /// Rows expected.
        height: usize,
        /// Columns expected.
        width: usize,
    },
    /// More files are broken than the run tolerates.
    #[error(
        "{count} of {total} images are broken ({share:.1}%), more than the {limit:.1}% allowed: {first}; \
         repair or remove them, or raise the limit",
        share = 100.0 * *count as f64 / *total as f64,
        limit = 100.0 * max_broken,
        first = first_names(first, *count)
    )]
    TooManyBroken {
        /// Distinct broken images so far.
        count: usize,
        /// Images in the set.
        total: usize,
        /// The fraction allowed.
        max_broken: f64,
        /// The first few of them.
        first: Vec<Broken>,
    },
    /// The set is too small for even one batch.
    #[error("{images} images do not fill one batch of {batch_size}; use more images or a smaller batch")]
    NoBatch {
        /// Images in the set.
        images: usize,
        /// Images in a batch.
        batch_size: usize,
    },
    /// The worker threads could not be started, or are gone.
    #[error("the image loading threads failed: {0}")]
    Threads(String),
}

fn first_names(first: &[Broken], count: usize) -> String {
    let names: Vec<_> = first.iter().map(|broken| broken.name.as_str()).collect();
    names.join(", ") + if count > first.len() { ", ..." } else { "" }
}
