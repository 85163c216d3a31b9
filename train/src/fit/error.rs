//! Why a run cannot start or go on.

use std::path::PathBuf;

use explainer_zoo::adapter::NotSquare;
use explainer_zoo::artifact::ArtifactError;
use explainer_zoo::auxiliary::AuxiliaryError;
use explainer_zoo::backbone::BackboneError;
use explainer_zoo::classes::ClassesError;
use explainer_zoo::device::DeviceError;
use explainer_zoo::explainer::WrongScale;
use explainer_zoo::explainer::bee::BeeError;
use explainer_zoo::explainer::masking::ScaleError;
use explainer_zoo::path_integral::SiteError;
use explainer_zoo::training::OptimizerError;

use super::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::distributed::CommunicatorError;
use explainer_metrics::MetricError;

/// What ends a run early. Everything earned before it is in the output folder.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The device cannot be had.
    #[error(transparent)]
    NoDevice(#[from] DeviceError),
    /// The backbone cannot be loaded.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The class names cannot be read or do not fit.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The auxiliary cannot be loaded, or does not go with the backbone.
    #[error(transparent)]
    Auxiliary(#[from] AuxiliaryError),
    /// An auxiliary's taps do not come to one side.
    #[error("auxiliary.taps: {0}")]
    Scale(#[from] WrongScale),
    /// The backbone's taps cannot carry a masking model.
    #[error("backbone.taps: {0}")]
    Scales(#[from] ScaleError),
    /// A transformer's patches do not tile the images.
    #[error(transparent)]
    Taps(#[from] NotSquare),
    /// A backbone with position embeddings takes one size of image only.
    #[error("backbone {backbone} takes images of {expected} pixels, data.crop is {found}; leave data.crop out")]
    Side {
        /// The backbone.
        backbone: String,
        /// What it takes.
        expected: usize,
        /// What was asked for.
        found: usize,
    },
    /// The head would have nothing to look at.
    #[error(
        "backbone {backbone} shows no taps; export it with some (export_torchscript.py --taps), or use explainer.method \
         ptame, which reads another classifier's"
    )]
    NoTaps {
        /// The backbone.
        backbone: String,
    },
    /// No feature can be put in the place of a tap.
    #[error(
        "{asks} puts another feature in the place of a tap, which backbone {backbone} cannot; write the TorchScript with \
         model-zoo/scripts/export_torchscript.py"
    )]
    FixedTaps {
        /// The backbone.
        backbone: String,
        /// What asks for it.
        asks: &'static str,
    },
    /// The procedural images have one size.
    #[error(
        "the images of `shapes` have {expected} pixels a side, the crop is {found}; use backbone shapes_resnet without data.crop"
    )]
    Shapes {
        /// Their side.
        expected: usize,
        /// The crop asked for.
        found: usize,
    },
    /// The method learns something else than an attention head.
    #[error(
        "explainer.method is {method}, which has no attention head; choose ttame, tame, ptame, lcam_img or lcam_fm"
    )]
    NoHead {
        /// The method.
        method: &'static str,
    },
    /// A path of BEE's cannot run where it is to.
    #[error("explainer.sites: {0}")]
    Site(#[from] SiteError),
    /// BEE cannot learn.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// The maps cannot be measured.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The optimizer's settings are no settings.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The artifact cannot be written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The output folder cannot be written.
    #[error("{}: cannot write: {source}; choose another folder with --output", path.display())]
    Output {
        /// File or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The loss or a gradient is NaN or infinite.
    #[error(
        "step {step}: {what}; its images are {}. The checkpoints before it are good: lower optimizer.lr, set \
         optimizer.clip_norm, or look at these images",
        images.join(", ")
    )]
    NotFinite {
        /// Number of the step, from 1.
        step: usize,
        /// What was found.
        what: String,
        /// The batch.
        images: Vec<String>,
    },
    /// No step could be made.
    #[error("not one of the training images can be read; the first: {0}")]
    NothingRead(String),
    /// The device failed while computing.
    #[error("the device failed: {0}")]
    Device(String),
    /// burn-train stopped for a reason of its own.
    #[error("training stopped: {0}")]
    Stopped(String),
    /// A collective failed, or another rank did.
    #[error(transparent)]
    Communicator(#[from] CommunicatorError),
    /// A batch cannot be shared equally.
    #[error(
        "train.batch_size is {batch_size}, which {ranks} processes cannot share equally; it is the whole batch's, of \
         which each has a part: take a multiple of {ranks}, or another number of processes"
    )]
    Shares {
        /// The batch size.
        batch_size: usize,
        /// How many processes there are.
        ranks: usize,
    },
    /// The method is trained by one process.
    #[error(
        "explainer.method {method} is trained by one process, {ranks} were started; ttame, tame, ptame, lcam_img and lcam_fm \
         can be trained by several"
    )]
    OneProcess {
        /// The method.
        method: &'static str,
        /// How many processes there are.
        ranks: usize,
    },
    /// Clean passes are kept by one process.
    #[error(
        "data.cache is for one process, {ranks} were started, each of which would see other images in each epoch; remove it"
    )]
    CacheShared {
        /// How many processes there are.
        ranks: usize,
    },
    /// The ranks have set up different runs.
    #[error(
        "rank {rank} would train another run than rank 0 (its configuration, weights or training images differ); start all \
         ranks with the same arguments, and let all see the same files"
    )]
    OtherRun {
        /// The first rank that differs.
        rank: usize,
    },
    /// The output folder belongs to an earlier run.
    #[error("{}: holds checkpoints of a run; continue it with --resume auto, or choose another --output", .0.display())]
    Occupied(PathBuf),
}
