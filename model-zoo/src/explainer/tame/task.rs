//! The training step of the TAME family: one pass through the classifier, whose image or feature map is masked by the map.

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation::sigmoid};

use crate::backbone::Tap;
use crate::bilinear::resize;
use crate::feature_extractor::Features;
use crate::head::{ClassSelection, ExplainerHead};
use crate::masking::Masking;
use crate::training::{
    LocalBatch, LossTerms, MetricNames, Objective, Selection, StepBatch, StepContext, StepOutput, TrainingTask,
    add_gradients, cross_entropy, matching_from,
};

/// What the map masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskTarget {
    /// The image, by this procedure (T-TAME, TAME, P-TAME, L-CAM-Img).
    Image(Masking),
    /// The feature map of the only tap (L-CAM-Fm).
    Feature,
}

/// The task of a TAME-family head, and of any other head whose map is to show what the classifier needs.
#[derive(Clone, Debug)]
pub struct MaskedInputTask {
    /// What the maps mask.
    pub masked: MaskTarget,
    /// The loss.
    pub objective: Objective,
}

impl MaskedInputTask {
    /// The loss, its terms, and the share of images whose masked version is classified as the whole one.
    pub const REPORT: MetricNames =
        &[("loss", false), ("ce", false), ("area", false), ("smooth", false), ("agreement", true)];
}

impl<H: ExplainerHead> TrainingTask<H> for MaskedInputTask {
    fn report(&self) -> MetricNames {
        Self::REPORT
    }

    fn step(
        &self,
        head: &H,
        clean: Features,
        batch: &StepBatch<'_>,
        context: &StepContext<'_>,
    ) -> (GradientsParams, StepOutput) {
        let StepContext { extractor, ranks, sync } = *context;
        let (backbone, adapter) = (extractor.backbone.as_ref(), extractor.adapters.first());
        if let Some(sync) = sync {
            sync.begin(batch.indices.is_empty());
        }
        let [images, ..] = clean.images.dims();
        let class = clean.predicted();
        let share = LocalBatch::new(&class, batch.indices.len(), ranks);
        let maps = sigmoid(head.maps(&clean.input(), ClassSelection::Of(share.classes)));
        let mask = matching_from(maps.clone(), share.first);
        let selected = match self.objective.selection {
            Selection::Batch => maps,
            Selection::Matching => mask.clone(),
        };

        let cotangent = |logits: Tensor<2>, rows: std::ops::Range<usize>| {
            let class = class.clone().narrow(0, rows.start, rows.len());
            self.objective.logit_gradient(logits, class, images)
        };
        // The classifier is not part of the head's graph: its gradient enters as a constant.
        let (masked, output) = match (self.masked, clean.taps.first(), adapter) {
            (MaskTarget::Feature, Some(tap), Some(adapter)) => {
                let map = adapter.apply(tap.clone());
                let [_, _, height, width] = map.dims();
                let masked = map * resize(mask, [height, width]);
                let feature = adapter.restore(masked.clone().inner(), tap);
                (masked, backbone.vjp_at(clean.images, extractor.taps[0], feature, &cotangent))
            }
            (MaskTarget::Image(masking), ..) => {
                let masked = masking.apply(clean.images, mask, &extractor.preprocessing);
                let output = backbone.vjp(masked.clone().inner(), &cotangent);
                (masked, output)
            }
            (MaskTarget::Feature, ..) => {
                let output = backbone.vjp(clean.images.clone(), &cotangent);
                (clean.images.autodiff(), output)
            }
        };
        let gradient = match (&output.gradient, adapter) {
            (Tap::Map(gradient), _) => gradient.clone(),
            (tokens, Some(adapter)) => adapter.apply(tokens.clone()),
            (Tap::Tokens(_), None) => masked.clone().inner().zeros_like(),
        };
        let regulariser = self.objective.regulariser_of(selected);
        let mut surrogate = (masked * gradient.autodiff()).sum() + regulariser.loss.clone();
        if ranks.is_some() {
            surrogate = surrogate.mul_scalar(share.weight);
        }
        let gradients = surrogate.backward();
        let rest = sync.and_then(|sync| sync.finish(&gradients));
        let mut gradients = GradientsParams::from_grads(gradients, head);
        if let Some(rest) = rest {
            add_gradients(head, &mut gradients, GradientsParams::from_grads(rest, head));
        }

        let agrees = output.logits.clone().argmax(1).reshape([images]).equal(class.clone());
        let agreement = agrees.float().mean();
        let ce = cross_entropy(output.logits, class);
        let LossTerms { total, ce, area, smooth } = self.objective.terms(ce, &regulariser);
        let values = Tensor::cat(vec![total, ce, area, smooth, agreement], 0);
        (gradients, StepOutput { report: Self::REPORT, values, images: batch.indices.len() })
    }
}
