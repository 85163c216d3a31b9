//! Every cross-crate test in one program: linking it once is what keeps the suite fast to build.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod attribution_parity;
mod backbone_parity;
mod conformance;
mod head_parity;
mod metric_parity;
mod objective_parity;
mod optimizer_parity;
mod preprocessing;
mod real_parity;
mod reference;
#[cfg(feature = "tch")]
mod torchscript;
mod untrusted;
