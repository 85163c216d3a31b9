//! stub

pub mod shapes;
