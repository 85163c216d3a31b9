//! Images to batches: image sets, the order of an epoch, and the worker threads that decode ahead of the training step.
//!
//! Everything random is a pure function of (seed, purpose, epoch, index): a run resumes from the index of a batch alone,
//! and the number of worker threads changes nothing but the speed.

mod batch;
mod broken_images;
mod error;
mod evaluation_set;
mod files;
mod folder;
mod image_set;
mod list;
mod loader;
mod loader_options;
mod objects;
mod open;
mod order;
mod scenes;
pub mod shapes;
mod shards;
mod subset;
mod tool_files;

pub use batch::Batch;
pub use broken_images::{BrokenImage, BrokenImages};
pub use error::DataError;
pub use evaluation_set::EvaluationSet;
pub(crate) use evaluation_set::scene_count;
pub use files::FileSet;
pub use image_set::ImageSet;
pub use loader::Loader;
pub use loader_options::LoaderOptions;
pub use objects::Objects;
pub use open::open;
pub use order::{Augment, Order};
pub use scenes::Scenes;
pub use shards::ShardSet;
pub use subset::Subset;
