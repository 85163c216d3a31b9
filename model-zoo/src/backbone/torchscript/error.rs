//! Errors of TorchScript backbones.

use std::path::PathBuf;

use crate::weights::source::WeightSource;

/// Why a TorchScript cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TorchScriptError {
    /// The program was built without LibTorch.
    #[error(
        "backbone torchscript: LibTorch is not built in; `eval \"$(scripts/libtorch)\"` finds or installs it, then \
         build with `--features tch`"
    )]
    NotBuilt,
    /// Its weights cannot be randomised.
    #[error(
        "backbone torchscript: the weights of a TorchScript cannot be randomised, because the order of its layers is not \
         known; leave the sanity check out"
    )]
    NoRandomisation,
    /// The weights are not a file.
    #[error("backbone torchscript: found weights `{0}`, expected a TorchScript file, hf:// or https://")]
    NoFile(WeightSource),
    /// LibTorch has no such device.
    #[error("backbone torchscript on {name:?}: LibTorch found {count} NVIDIA GPUs, numbered from 0")]
    Device {
        /// The name given.
        name: String,
        /// Number of devices.
        count: usize,
    },
    /// The file is not a TorchScript, or one of another version.
    #[error(
        "{}: LibTorch cannot load it as TorchScript: {reason}; write one with model-zoo/scripts/export_torchscript.py \
         (a state_dict is not a TorchScript)",
        path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// LibTorch's reason.
        reason: String,
    },
    /// The preprocessing is not known.
    #[error(
        "{}: its preprocessing is not known; write it with model-zoo/scripts/export_torchscript.py, or set \
         backbone.preprocessing",
        path.display()
    )]
    NoPreprocessing {
        /// The file.
        path: PathBuf,
    },
    /// Its metadata cannot be used.
    #[error("{}: explainer_record(): {reason}; write it again with model-zoo/scripts/export_torchscript.py", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its output is neither logits nor logits and taps.
    #[error(
        "{}: for images {images:?} it returned {found}; expected logits [B,K], (logits, {{name: tap}}) or \
         (logits, [tap, ...]) with taps [B,C,h,h] or [B,N,C]",
        path.display()
    )]
    Output {
        /// The file.
        path: PathBuf,
        /// The images' shape.
        images: Vec<usize>,
        /// What it returned.
        found: String,
    },
    /// It writes into its input.
    #[error("{}: it writes into its input images; let it work on a copy (clone())", path.display())]
    Writes {
        /// The file.
        path: PathBuf,
    },
    /// It failed while it ran.
    #[error("{}: failed on images {images:?}: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The images' shape.
        images: Vec<usize>,
        /// LibTorch's reason.
        reason: String,
    },
    /// Its logits are not differentiable.
    #[error(
        "{}: no gradient reaches {to} from its logits; export it with gradients enabled (not under torch.no_grad(), \
         without detach())",
        path.display()
    )]
    NoGradient {
        /// The file.
        path: PathBuf,
        /// Images or tap.
        to: String,
    },
    /// Its taps cannot be replaced.
    #[error(
        "{}: it cannot replace the feature map of tap {tap}, which lcam_fm, bee at a tap and Grad-CAM need; \
         write it with model-zoo/scripts/export_torchscript.py",
        path.display()
    )]
    Fixed {
        /// The file.
        path: PathBuf,
        /// The tap.
        tap: String,
    },
}
