//! Explainers on the Hugging Face Hub: [`fetch()`] downloads one by its [`Reference`], an [`Upload`] publishes one.
//!
//! All requests go through the client `hf-hub`. Address, token and cache are those of Python's `huggingface_hub`
//! (`HF_ENDPOINT`, `HF_TOKEN` or the file that `hf auth login` writes, `HF_HOME`). The token is never printed, not even
//! in errors.
//!
//! Downloads are not trusted: the file names are fixed in this program, sizes are limited before the download, each file
//! is compared with the hash that the Hub states, and nothing in it is executed.

mod client;
mod error;
mod fetch;
mod publish;
mod reference;
#[cfg(test)]
mod tests;

pub use error::HubError;
pub use fetch::{Snapshot, fetch};
pub use publish::{FileChange, Publication, PublishOptions, PublishOutcome, SHEET, Upload, UploadFile};
pub use reference::{Reference, ReferenceError, Repository};
