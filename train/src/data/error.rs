//! Errors of images and lists on disk.

use std::io;
use std::path::PathBuf;

use explainer_zoo::image::ImageError;
use thiserror::Error;

/// Why images cannot be found, read or batched.
#[derive(Debug, Error)]
pub enum DataError {
    /// A folder or list does not exist or cannot be read.
    #[error("{}: cannot read the images: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The folder or list.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// No image was found.
    #[error("{}: found no image; {expected}", path.display())]
    NoImages {
        /// The folder or list.
        path: PathBuf,
        /// What was expected.
        expected: String,
    },
    /// A folder with images of its own and images in sub-folders.
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
    /// A line of a list that cannot be parsed.
    #[error("{}:{line}: {problem}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// The line number, from 1.
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
    /// Object annotations that cannot be parsed.
    #[error("{}: {problem}", path.display())]
    Objects {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A number of scenes that is not a positive integer.
    #[error("found `shapes:{found}`, expected a whole number of scenes, 1 or more, such as shapes:256")]
    SceneCount {
        /// The text that was found.
        found: String,
    },
    /// Scenes for a classifier with another input size.
    #[error(
        "`shapes` has images of {scenes} x {scenes} pixels, but this classifier takes {images} x {images}; give a folder of images"
    )]
    SceneSide {
        /// Side of a scene, in pixels.
        scenes: usize,
        /// Side of the classifier's input, in pixels.
        images: usize,
    },
    /// A listed image does not exist.
    #[error("{}: no such file; correct the path in the list", path.display())]
    MissingImage {
        /// The file.
        path: PathBuf,
    },
    /// One image could not be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The decoder panicked on one image.
    #[error("{name}: the decoder panicked on this image; remove it, and please report it")]
    Panicked {
        /// The image.
        name: String,
    },
    /// An image of another size than the images before it.
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
    /// More images are broken than the limit allows.
    #[error(
        "{count} of {total} images are {what} ({share:.1}%), more than the {limit:.1}% allowed: {first}; {remedy}, or raise \
         the limit: data.max_broken of a training run, max_broken of a comparison, --max-broken of evaluate",
        what = if missing == count { "missing" } else { "broken" },
        remedy = if missing == count { "correct their paths" } else { "repair or remove them" },
        share = 100.0 * *count as f64 / *total as f64,
        limit = 100.0 * max_broken,
        first = first_names(first, *count)
    )]
    TooManyBroken {
        /// Distinct broken images so far.
        count: usize,
        /// How many of them are files that do not exist.
        missing: usize,
        /// Images in the set.
        total: usize,
        /// The fraction allowed.
        max_broken: f64,
        /// The names of the first few of them.
        first: Vec<String>,
    },
    /// The set is too small for even one batch.
    #[error("{images} images do not fill one batch of {batch_size}; use more images or a smaller batch")]
    NoBatch {
        /// Images in the set.
        images: usize,
        /// Images in a batch.
        batch_size: usize,
    },
    /// The worker threads could not be started, or have ended.
    #[error("the threads that load images failed: {0}")]
    Threads(String),
}

fn first_names(first: &[String], count: usize) -> String {
    first.join(", ") + if count > first.len() { ", ..." } else { "" }
}
