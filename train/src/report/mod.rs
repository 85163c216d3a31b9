//! Results for people and for other programs: heat maps over images, contact sheets, arrays and tables.

pub mod arrays;
pub mod colormap;
pub mod overlay;
pub mod progress;
pub mod sheet;
pub mod table;

use std::path::PathBuf;

use explainer_zoo::files::WriteError;

/// Why a result could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The picture could not be encoded.
    #[error("{}: cannot write the picture: {source}", path.display())]
    Encode {
        /// The file that was to be written; an older file of this name is untouched.
        path: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// The values do not fill the stated shape.
    #[error("array of shape {shape:?} needs {expected} values, found {found}; pass one value for each place")]
    Shape {
        /// The stated shape.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: usize,
        /// How many values there are.
        found: usize,
    },
    /// A map has a value that is not a number or infinite.
    #[error("{}: the map has {count} values that are not finite; a 16-bit picture cannot hold them, write .npy instead", path.display())]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
        /// How many values are not finite.
        count: usize,
    },
}
