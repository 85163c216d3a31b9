//! Explainers on the Hugging Face Hub: [`fetch()`] one by its [`Reference`], or publish one as a [`Draft`].
//!
//! Everything goes through the client `hf-hub`, which finds address, token and cache where Python's `huggingface_hub`
//! finds them (`HF_ENDPOINT`, `HF_TOKEN` or the file that `hf auth login` writes, `HF_HOME`). The token is never shown,
//! not in errors either.
//!
//! What is fetched is not trusted: names of files are this program's own, sizes are bounded before anything is
//! downloaded, each file is compared with the hash that the Hub has for it, and nothing in it is executed.

mod error;
mod fetch;
mod publish;
mod reference;
mod remote;
#[cfg(test)]
mod tests;

pub use error::HubError;
pub use fetch::{Fetched, fetch};
pub use publish::{Change, Draft, DraftFile, Outcome, Publication, SHEET, Target};
pub use reference::{Reference, Repository};
