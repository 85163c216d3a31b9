//! The TAME family: one pass through the classifier, with the image (or the feature map) masked by its map.

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation::sigmoid};
use explainer_zoo::backbone::Tap;
use explainer_zoo::bilinear::resize;
use explainer_zoo::explainer::{AnyHead, ClassSelection, ExplainerHead};
use explainer_zoo::feature_extractor::Features;
use explainer_zoo::training::{Objective, Selection, Terms, cross_entropy, matching_from};

use super::Masked;
use super::share::Share;
use crate::data::Batch;
use crate::fit::context::Context;
use crate::fit::gradients::add_gradients;
use crate::fit::metrics::{Report, StepOutput};

/// What a TAME-family head is trained for.
#[derive(Clone, Debug)]
pub struct TameTask {
    /// What the maps mask.
    pub masked: Masked,
    /// The loss.
    pub objective: Objective,
}

impl TameTask {
    /// The loss, its terms, and the share of the batch whose masked image is still classified as the whole one.
    pub const REPORT: Report =
        &[("loss", false), ("ce", false), ("area", false), ("smooth", false), ("agreement", true)];
}

/// A step of `head` on this rank's share of a batch. Its gradients are the share's part of the batch's: the sum over all
/// ranks is the gradient of the whole batch's loss. Its metrics are those of the share. `clean` is the clean pass.
pub(super) fn tame(
    head: &AnyHead,
    task: &TameTask,
    clean: Features,
    batch: &Batch,
    context: &Context,
) -> (GradientsParams, StepOutput) {
    if let Some(sync) = &context.sync {
        sync.begin(batch.is_empty());
    }
    let extractor = &context.extractor;
    let [images, ..] = clean.images.dims();
    let class = clean.predicted();
    let share = Share::of(&class, batch.len(), &context.group);
    let maps = sigmoid(head.maps(&clean.input(), ClassSelection::Of(share.classes)));
    let mask = matching_from(maps.clone(), share.first);
    let selected = match task.objective.selection {
        Selection::Batch => maps,
        Selection::Matching => mask.clone(),
    };

    let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| {
        let class = class.clone().narrow(0, rows.start, rows.len());
        task.objective.logit_gradient(logits, class, images)
    };
    // The classifier stands outside the head's graph: its gradient comes in as a constant.
    let (masked, answer) = match (task.masked, clean.taps.first(), extractor.adapters.first()) {
        (Masked::Feature, Some(tap), Some(adapter)) => {
            let map = adapter.apply(tap.clone());
            let [_, _, height, width] = map.dims();
            let masked = map * resize(mask, [height, width]);
            let feature = adapter.restore(masked.clone().inner(), tap);
            (masked, extractor.backbone.vjp_at(clean.images, extractor.taps[0], feature, &cotangent))
        }
        (Masked::Image(masking), ..) => {
            let masked = masking.apply(clean.images, mask, &extractor.backbone.spec().preprocessing);
            let answer = extractor.backbone.vjp(masked.clone().inner(), &cotangent);
            (masked, answer)
        }
        (Masked::Feature, ..) => {
            let answer = extractor.backbone.vjp(clean.images.clone(), &cotangent);
            (clean.images.autodiff(), answer)
        }
    };
    let pulled = match (&answer.gradient, extractor.adapters.first()) {
        (Tap::Map(gradient), _) => gradient.clone(),
        (tokens, Some(adapter)) => adapter.apply(tokens.clone()),
        (Tap::Tokens(_), None) => masked.clone().inner().zeros_like(),
    };
    let regulariser = task.objective.regulariser_of(selected);
    let mut surrogate = (masked * pulled.autodiff()).sum() + regulariser.loss.clone();
    if !context.group.is_single() {
        surrogate = surrogate.mul_scalar(share.weight);
    }
    let gradients = surrogate.backward();
    let rest = context.sync.as_ref().and_then(|sync| sync.finish(&gradients));
    let mut gradients = GradientsParams::from_grads(gradients, head);
    if let Some(rest) = rest {
        add_gradients(head, &mut gradients, GradientsParams::from_grads(rest, head));
    }

    let agrees = answer.logits.clone().argmax(1).reshape([images]).equal(class.clone());
    let agreement = agrees.float().mean();
    let ce = cross_entropy(answer.logits, class);
    let Terms { total, ce, area, smooth } = task.objective.terms(ce, &regulariser);
    let values = Tensor::cat(vec![total, ce, area, smooth, agreement], 0);
    (gradients, StepOutput { report: TameTask::REPORT, values, images: batch.len() })
}
