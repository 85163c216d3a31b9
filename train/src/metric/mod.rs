//! Metrics of heat maps, one file each. Every metric states its direction, unit, range, source and cost in passes.

mod masked;

pub use masked::{Confidence, MaskedConfidence, Summary, keep_top};
