//! stub

pub mod hash;
pub mod source;
