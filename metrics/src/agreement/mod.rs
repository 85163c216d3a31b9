//! Agreement: does the map agree with another one, or with people's fixations?
//!
//! NSS compares a map with fixations. Quantus has no such category; the benchmarks of saliency models do (Bylinskii et al.,
//! 2019). [`ssim`] and [`spearman`] compare two maps; the randomisation metrics use them.

mod nss;
mod similarity;

pub(crate) use nss::Nss;
pub use similarity::{spearman, ssim};
