//! One training step of each family of explainers: a batch to gradients of the head, and the metrics to report.

mod masking_model;
mod share;
mod tame;

use burn::optim::GradientsParams;
use explainer_zoo::explainer::AnyHead;
use explainer_zoo::feature_extractor::Features;
use explainer_zoo::masking::Masking;

use super::context::Context;
use super::metrics::{Report, StepOutput};
use crate::config::{Config, ExplainerConfig};
use crate::data::Batch;

pub use masking_model::{MaskingTask, PhaseName};
pub use tame::TameTask;

/// What the map is multiplied into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The image, by this procedure (T-TAME, TAME, L-CAM-Img).
    Image(Masking),
    /// The feature map of the only tap (L-CAM-Fm).
    Feature,
}

/// What an explainer is trained for, by family.
#[derive(Clone, Debug)]
pub enum Task {
    /// T-TAME, TAME and L-CAM.
    Tame(TameTask),
    /// The fast masking model.
    MaskingModel(MaskingTask),
}

impl Task {
    /// The task of a run, of its last phase if it has several.
    pub fn of(config: &Config) -> Self {
        let masked = match &config.explainer {
            ExplainerConfig::MaskingModel(section) => {
                return Self::MaskingModel(MaskingTask::new(section, PhaseName::Decoder, config.train.seed));
            }
            ExplainerConfig::LcamFm(_) => Masked::Feature,
            _ => Masked::Image(config.masking),
        };
        Self::Tame(TameTask { masked, objective: config.objective.clone() })
    }

    /// The gradients of `head` on this rank's share of a batch, whose clean pass is `features`, and its metrics.
    pub fn step(
        &self,
        head: &AnyHead,
        features: Features,
        batch: &Batch,
        context: &Context,
    ) -> (GradientsParams, StepOutput) {
        match self {
            Self::Tame(task) => tame::tame(head, task, features, batch, context),
            Self::MaskingModel(task) => masking_model::masking_model(head, task, features, batch, context),
        }
    }

    /// The names of its metrics.
    pub fn report(&self) -> Report {
        match self {
            Self::Tame(_) => TameTask::REPORT,
            Self::MaskingModel(task) => task.phase.report(),
        }
    }

    /// Whether validation can measure what it trains: a selector alone has no maps.
    pub fn validates(&self) -> bool {
        !matches!(self, Self::MaskingModel(MaskingTask { phase: PhaseName::Selector, .. }))
    }
}
