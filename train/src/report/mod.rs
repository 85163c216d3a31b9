//! Output: heat maps over images, contact sheets, arrays, tables and progress.

pub mod arrays;
pub mod colormap;
pub mod overlay;
pub mod progress;
pub mod sheet;
pub mod table;

use std::path::PathBuf;

use explainer_zoo::files::WriteError;

/// Why a result cannot be rendered or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The image cannot be encoded.
    #[error("{}: cannot encode the image: {source}", path.display())]
    Encode {
        /// The file. An older file of this name is unchanged.
        path: PathBuf,
        /// The error of the encoder.
        source: image::ImageError,
    },
    /// The number of values does not match the shape.
    #[error("array of shape {shape:?} needs {expected} values, found {found}; pass one value for each element")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// Number of elements of the shape.
        expected: usize,
        /// Number of values.
        found: usize,
    },
    /// A map has NaN or infinite values.
    #[error("{}: the map has {count} values that are not finite; a 16-bit PNG cannot store them, write .npy instead", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Number of values that are not finite.
        count: usize,
    },
}
