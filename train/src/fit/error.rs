//! Why a run cannot start or continue.

use std::path::PathBuf;

use explainer_zoo::adapter::AdapterError;
use explainer_zoo::artifact::ArtifactError;
use explainer_zoo::auxiliary::AuxiliaryError;
use explainer_zoo::backbone::BackboneError;
use explainer_zoo::classes::ClassesError;
use explainer_zoo::device::DeviceError;
use explainer_zoo::explainer::bee::BeeError;
use explainer_zoo::explainer::{Method, ShapeError};
use explainer_zoo::feature_extractor::FeatureError;
use explainer_zoo::path_integral::PathLayerError;
use explainer_zoo::training::OptimizerError;

use super::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::distributed::CommunicatorError;
use explainer_metrics::MetricError;

/// Why a run ends early. Its checkpoints and its log up to then are in the output folder.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The device is not available.
    #[error(transparent)]
    NoDevice(#[from] DeviceError),
    /// The backbone cannot be loaded.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The class names cannot be read, or their number is not the classifier's.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The auxiliary cannot be loaded, or does not fit the backbone.
    #[error(transparent)]
    Auxiliary(#[from] AuxiliaryError),
    /// The head cannot read the taps.
    #[error("{key}: {source}")]
    Shape {
        /// The key of the taps.
        key: &'static str,
        /// Why.
        source: ShapeError,
    },
    /// A transformer's patches do not tile the images.
    #[error(transparent)]
    Taps(#[from] AdapterError),
    /// The backbone has position embeddings and takes one image size only.
    #[error("backbone {backbone} takes images of {expected} pixels, data.crop is {found}; leave data.crop out")]
    Side {
        /// The backbone.
        backbone: String,
        /// Its image size.
        expected: usize,
        /// The configuration's.
        found: usize,
    },
    /// The backbone has no taps for the head.
    #[error(
        "backbone {backbone} has no taps; export it with some (export_torchscript.py --taps), or use explainer.method \
         ptame, which reads another classifier's"
    )]
    NoTaps {
        /// The backbone.
        backbone: String,
    },
    /// The backbone cannot replace a tap's feature map.
    #[error(
        "{asks} replaces a tap's feature map; backbone {backbone} does not support this; export the TorchScript with \
         model-zoo/scripts/export_torchscript.py"
    )]
    FixedTaps {
        /// The backbone.
        backbone: String,
        /// The key that needs it.
        asks: String,
    },
    /// The procedural images have one size only.
    #[error(
        "the images of `shapes` have {expected} pixels a side, the crop is {found}; use backbone shapes_resnet without data.crop"
    )]
    Shapes {
        /// Their side.
        expected: usize,
        /// The crop.
        found: usize,
    },
    /// The method has no attention head.
    #[error(
        "explainer.method is {method}, which has no attention head; choose ttame, tame, ptame, lcam_img or lcam_fm"
    )]
    NoHead {
        /// The method.
        method: Method,
    },
    /// A site of BEE's path integrals does not exist.
    #[error("explainer.sites: {0}")]
    Site(#[from] PathLayerError),
    /// BEE failed.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// A metric failed.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The optimizer cannot be built.
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
        "step {step}: {what}; its images are {}. The checkpoints before it are unaffected: lower optimizer.lr, set \
         optimizer.clip_norm, or check these images",
        images.join(", ")
    )]
    NotFinite {
        /// Number of the step, from 1.
        step: usize,
        /// The value and its name.
        what: String,
        /// The images of the batch.
        images: Vec<String>,
    },
    /// No training image can be read.
    #[error("not one of the training images can be read; the first: {0}")]
    NothingRead(String),
    /// The device failed while computing.
    #[error("the device failed: {0}")]
    Device(String),
    /// The run cannot continue for an internal reason.
    #[error("training stopped: {0}")]
    Stopped(String),
    /// A collective failed, or another rank did.
    #[error(transparent)]
    Communicator(#[from] CommunicatorError),
    /// The batch cannot be divided equally.
    #[error(
        "train.batch_size is {batch_size}, which {ranks} processes cannot share equally; it counts the images of the whole \
         batch, of which each process has a part: take a multiple of {ranks}, or another number of processes"
    )]
    Shares {
        /// The batch size.
        batch_size: usize,
        /// How many processes there are.
        ranks: usize,
    },
    /// The method trains in one process only.
    #[error(
        "explainer.method {method} is trained by one process, {ranks} were started; {} can be trained by several",
        shared_methods()
    )]
    OneProcess {
        /// The method.
        method: Method,
        /// How many processes there are.
        ranks: usize,
    },
    /// The cache of clean passes works in one process only.
    #[error(
        "data.cache is for one process, {ranks} were started, each of which would see other images in each epoch; remove it"
    )]
    CacheShared {
        /// How many processes there are.
        ranks: usize,
    },
    /// The ranks have loaded different runs.
    #[error(
        "rank {rank} would train another run than rank 0 (its configuration, weights or training images differ); start all \
         ranks with the same arguments, and let all see the same files"
    )]
    OtherRun {
        /// The first rank that differs.
        rank: usize,
    },
    /// Another process writes to the output folder.
    #[error("{}: another run is writing to this folder; wait for its end, or choose another --output", .0.display())]
    Locked(PathBuf),
    /// The output folder belongs to an earlier run.
    #[error("{}: holds checkpoints of a run; continue it with --resume auto, or choose another --output", .0.display())]
    Occupied(PathBuf),
}

impl From<FeatureError> for FitError {
    fn from(error: FeatureError) -> Self {
        match error {
            FeatureError::Backbone(error) => error.into(),
            FeatureError::Adapter(error) => error.into(),
        }
    }
}

/// The methods that several processes can train.
fn shared_methods() -> String {
    let shared = Method::ALL.iter().filter(|method| !method.requirements().one_process);
    shared.map(|method| method.name()).collect::<Vec<_>>().join(", ")
}
