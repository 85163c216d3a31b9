//! Why a TorchScript cannot be used.

use std::path::PathBuf;

use crate::weights::source::WeightSource;

/// What is wrong with a TorchScript, or with the program that should run it.
#[derive(Debug, thiserror::Error)]
pub enum TorchScriptError {
    /// The program was built without LibTorch.
    #[error(
        "backbone torchscript: LibTorch is not built in; `eval \"$(scripts/libtorch)\"` finds or installs it, then \
         build with `--features tch`"
    )]
    NotBuilt,
    /// Its weights are not ours to replace.
    #[error(
        "backbone torchscript: the weights of a TorchScript cannot be made random, its layers have no order that is \
         known; leave the sanity check out"
    )]
    Sealed,
    /// A TorchScript is a file.
    #[error("backbone torchscript: found weights `{0}`, expected a TorchScript file, hf:// or https://")]
    NoFile(WeightSource),
    /// LibTorch has no such device.
    #[error("backbone torchscript on {name:?}: LibTorch found {count} NVIDIA GPUs, numbered from 0")]
    Device {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// The file is no TorchScript, or one of another version.
    #[error(
        "{}: LibTorch cannot load it as TorchScript: {reason}; write one with model-zoo/scripts/export_torchscript.py \
         (a state_dict is none)",
        path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// LibTorch's reason.
        reason: String,
    },
    /// Nobody says how images are prepared.
    #[error(
        "{}: it does not say how it wants its images; write it with model-zoo/scripts/export_torchscript.py, or set \
         backbone.preprocessing",
        path.display()
    )]
    NoPreprocessing {
        /// The file.
        path: PathBuf,
    },
    /// Its `explainer_record` is none.
    #[error("{}: explainer_record(): {reason}; write it again with model-zoo/scripts/export_torchscript.py", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It returns something else than logits, or logits and taps.
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
    /// It works in place.
    #[error("{}: it writes into the images that it is given; work on a copy there (clone())", path.display())]
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
    /// There is no way back from its logits.
    #[error(
        "{}: no gradient reaches {to} from its logits; export it again with gradients on (not under torch.no_grad(), \
         without detach())",
        path.display()
    )]
    NoGradient {
        /// The file.
        path: PathBuf,
        /// Images or tap.
        to: String,
    },
    /// No other feature can be put in the place of its taps.
    #[error(
        "{}: it cannot classify with another feature in the place of tap {tap}, as lcam_fm, bee at a tap and Grad-CAM \
         have it; write it with model-zoo/scripts/export_torchscript.py",
        path.display()
    )]
    Fixed {
        /// The file.
        path: PathBuf,
        /// The tap.
        tap: String,
    },
}
