//! The shape of an attention head.

use serde::{Deserialize, Serialize};

use super::upsampling::{Upsampling, WrongScale};
use crate::backbone::TapSpec;

/// The largest side of a map, in T-TAME.
pub const MAX_SIDE: usize = 56;

/// The shape of an attention head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TameConfig {
    /// Channels of each tap, in order.
    pub channels: Vec<usize>,
    /// Number of classes K.
    pub classes: usize,
    /// Side of the maps `[h,w]`.
    pub map_size: [usize; 2],
    /// Whether each tap has an attention branch (TAME, T-TAME, P-TAME). Without, the taps are fused as they are
    /// (L-CAM).
    pub branches: bool,
    /// Whether the fusion has a bias (T-TAME yes, P-TAME no).
    pub fuse_bias: bool,
    /// How the taps come to `map_size`. Not written where it is the default, so that nothing changes for heads that
    /// have it.
    #[serde(default, skip_serializing_if = "Upsampling::is_default")]
    pub upsampling: Upsampling,
}

impl TameConfig {
    /// A T-TAME head over taps of images of `side` pixels: maps as large as the largest tap, at most [`MAX_SIDE`].
    pub fn ttame(taps: &[TapSpec], classes: usize, side: usize) -> Self {
        let largest = taps.iter().map(|tap| tap.grid(side)).max().unwrap_or(1).min(MAX_SIDE);
        let channels = taps.iter().map(|tap| tap.channels).collect();
        let upsampling = Upsampling::Resize;
        Self { channels, classes, map_size: [largest; 2], branches: true, fuse_bias: true, upsampling }
    }

    /// A P-TAME head over an auxiliary's taps of images of `side` pixels: maps as large as the first tap, which the
    /// others reach by doubling; no bias.
    ///
    /// # Errors
    /// [`WrongScale`] for a tap that does not reach it.
    pub fn ptame(taps: &[TapSpec], classes: usize, side: usize) -> Result<Self, WrongScale> {
        let upsampling = Upsampling::Doubling;
        upsampling.check(taps, side)?;
        let first = taps.first().map_or(1, |tap| tap.grid(side));
        Ok(Self { map_size: [first; 2], fuse_bias: false, upsampling, ..Self::ttame(taps, classes, side) })
    }

    /// An L-CAM head: a 1x1 convolution from one tap to K maps.
    pub fn lcam(tap: &TapSpec, classes: usize, side: usize) -> Self {
        Self { branches: false, ..Self::ttame(std::slice::from_ref(tap), classes, side) }
    }

    /// Names and shapes of the head's tensors as PyTorch has them, running statistics included.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        for (i, c) in self.channels.iter().copied().enumerate().filter(|_| self.branches) {
            all.push((format!("convs.{i}.weight"), vec![c, c, 1, 1]));
            all.push((format!("convs.{i}.bias"), vec![c]));
            for part in ["weight", "bias", "running_mean", "running_var"] {
                all.push((format!("bns.{i}.{part}"), vec![c]));
            }
        }
        all.push(("fuser.weight".into(), vec![self.classes, self.channels.iter().sum(), 1, 1]));
        if self.fuse_bias {
            all.push(("fuser.bias".into(), vec![self.classes]));
        }
        all
    }
}
