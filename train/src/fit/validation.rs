//! Validation: AD, IC and AG of the head's maps on images that it does not learn from.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::train::Interrupter;
use explainer_metrics::{Confidence, MaskedConfidence, Summary};
use explainer_zoo::explainer::{AnyHead, ClassSelection, ExplainerHead};
use explainer_zoo::feature_extractor::Features;

use super::FitError;
use super::batches::DistinctBrokenImages;
use super::checkpoint::Best;
use super::context::Context;
use crate::data::{ImageSet, Loader, LoaderOptions};

/// This rank's share of the validation images.
pub(super) struct ValidationSet {
    /// The images that every validation uses.
    pub set: Arc<dyn ImageSet>,
    /// How this rank reads its share.
    pub plan: LoaderOptions,
    /// The broken images of this rank.
    pub broken: DistinctBrokenImages,
}

impl ValidationSet {
    /// Measures `head` on this rank's share; the second value tells whether the rank was asked to stop before its end.
    ///
    /// # Errors
    /// [`FitError::Data`] and [`FitError::Backbone`].
    pub fn measure(
        &mut self,
        head: &AnyHead,
        context: &Context,
        interrupter: &Interrupter,
    ) -> Result<(Vec<Confidence>, bool), FitError> {
        let metric = MaskedConfidence::default();
        let backbone = context.extractor.backbone.as_ref();
        let mut rows = Vec::new();
        let mut loader = Loader::new(self.set.clone(), self.plan.clone(), 0)?;
        for batch in loader.by_ref() {
            let batch = batch?;
            self.broken.extend(&batch.broken);
            if interrupter.should_stop() {
                return Ok((rows, true));
            }
            if !batch.is_empty() {
                let features = context.extractor.extract(batch.images(&context.device));
                let maps = predicted_maps(head, &features);
                let class = features.predicted();
                let preprocessing = &backbone.spec().preprocessing;
                rows.extend(metric.measure(backbone, preprocessing, &features.images, features.logits, &class, maps));
                context.extractor.check_failures()?;
            }
        }
        self.broken.extend(loader.broken_images().files()); // no batch reports those behind the last one
        Ok((rows, false))
    }
}

/// The maps of each image's predicted class as inference shows them, `[B,1,h,w]`.
pub(super) fn predicted_maps(head: &AnyHead, features: &Features) -> Tensor<4> {
    head.postprocess(head.maps(&features.input(), ClassSelection::Each(features.predicted())))
}

/// The figures of a validation by their usual names, such as `AD(50)`.
pub(super) fn figures(rows: &[Confidence]) -> BTreeMap<String, f64> {
    let of = |summary: &Summary| {
        let Summary { percent, ad, ic, ag, .. } = *summary;
        [("AD", ad), ("IC", ic), ("AG", ag)].map(|(name, value)| (format!("{name}({percent})"), value))
    };
    MaskedConfidence::default().summary(rows).iter().flat_map(of).collect()
}

/// Whether AD(50) of a validation on `images` images replaces the best so far. An undefined one (NaN) never does. If the
/// best was measured on another number of images, the two cannot be compared, and the new one replaces it.
pub(super) fn is_best(best: Option<&Best>, ad50: f64, images: usize) -> bool {
    !ad50.is_nan() && best.is_none_or(|best| best.images != images || ad50 < best.ad50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_best_of_the_same_images() {
        let best = Best { step: 1, ad50: 20.0, images: 16, figures: BTreeMap::new() };
        assert!(is_best(None, 99.0, 16) && is_best(Some(&best), 19.0, 16) && is_best(Some(&best), 99.0, 17));
        assert!(!is_best(Some(&best), 20.0, 16) && !is_best(Some(&best), f64::NAN, 16));
        assert!(!is_best(None, f64::NAN, 16) && !is_best(Some(&best), f64::NAN, 17), "undefined is never the best");
    }
}
