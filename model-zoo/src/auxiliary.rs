//! P-TAME's auxiliary: a second frozen classifier. The head reads its feature maps instead of those of the explained
//! classifier.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::adapter::{Adapter, AdapterError};
use crate::backbone::{Backbone, BackboneError, TapId, TapSpec};
use crate::image::Preprocessing;

/// Why a classifier cannot be the auxiliary.
#[derive(Debug, thiserror::Error)]
pub enum AuxiliaryError {
    /// It cannot be loaded, or has no such tap.
    #[error("as the auxiliary: {0}")]
    Backbone(#[from] BackboneError),
    /// One of its taps cannot become a map.
    #[error("as the auxiliary: {0}")]
    NotSquare(#[from] AdapterError),
    /// It takes images of one size only, which is not that of the explained classifier.
    #[error(
        "auxiliary {name} takes images of {expected} pixels only, those of the explained classifier have {found}; choose an \
         auxiliary without position embeddings, such as resnet18"
    )]
    Side {
        /// The auxiliary.
        name: String,
        /// The side that it takes.
        expected: usize,
        /// Side of the explained classifier's images.
        found: usize,
    },
}

/// A frozen classifier that provides feature maps, and the preprocessing of its images.
#[derive(Clone, Debug)]
pub struct Auxiliary {
    /// The classifier. Its logits are not used, so its classes may differ from those of the explained classifier.
    pub backbone: Arc<dyn Backbone>,
    /// Its taps, in the head's order.
    pub taps: Vec<TapId>,
    /// The adapter of each tap.
    pub adapters: Vec<Adapter>,
    /// Size and crop of the explained classifier's images, mean and standard deviation of the auxiliary's.
    pub preprocessing: Preprocessing,
}

impl Auxiliary {
    /// The auxiliary `backbone` with its `taps`. `preprocessing` has the size and crop of the explained classifier's
    /// images, and the mean and standard deviation of the auxiliary: see [`Preprocessing::normalised_as`].
    ///
    /// # Errors
    /// [`AuxiliaryError`] for a tap that it does not have, and for an image size that it does not take.
    pub fn new(
        backbone: Arc<dyn Backbone>,
        taps: &[String],
        preprocessing: Preprocessing,
    ) -> Result<Self, AuxiliaryError> {
        let (spec, found) = (backbone.spec(), preprocessing.crop);
        if let Some(expected) = spec.fixed_side().filter(|side| *side != found) {
            return Err(AuxiliaryError::Side { name: spec.name.clone(), expected, found });
        }
        let taps = backbone.taps(taps)?;
        let adapters = taps.iter().map(|tap| Adapter::new(backbone.tap(*tap), found)).collect::<Result<_, _>>()?;
        Ok(Self { backbone, taps, adapters, preprocessing })
    }

    /// The specifications of the taps, in the head's order.
    pub fn tap_specs(&self) -> Vec<TapSpec> {
        self.taps.iter().map(|tap| self.backbone.tap(*tap).clone()).collect()
    }

    /// The feature maps `[B,C_i,h_i,w_i]` of images `[B,3,H,W]` in 0..=1, in one forward pass.
    pub fn features(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        let taps = self.backbone.forward(self.preprocessing.normalise(pixels), &self.taps).taps;
        self.adapters.iter().zip(taps).map(|(adapter, tap)| adapter.apply(tap)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Tap;
    use crate::backbone::{imagenet, load};
    use crate::device::Compute;
    use burn::tensor::{Device, Int};

    fn backbone(name: &str) -> Arc<dyn Backbone> {
        let compute = Compute::new("flex", Some(1)).unwrap();
        Arc::new(load(name, "random:3", None, &compute, &mut |_, _| {}).unwrap())
    }

    /// The explained classifier's preprocessing: small images, ImageNet's mean and standard deviation.
    fn explained() -> Preprocessing {
        Preprocessing { resize: 40, crop: 32, ..imagenet() }
    }

    fn auxiliary(backbone: &Arc<dyn Backbone>, taps: &[&str]) -> Result<Auxiliary, AuxiliaryError> {
        let taps: Vec<String> = taps.iter().map(ToString::to_string).collect();
        let preprocessing = explained().normalised_as(&backbone.spec().preprocessing);
        Auxiliary::new(backbone.clone(), &taps, preprocessing)
    }

    #[test]
    fn its_images_have_its_own_normalisation() {
        let backbone = backbone("shapes_resnet");
        assert_eq!(backbone.spec().preprocessing.mean, [0.5; 3], "not the explained classifier's");
        let auxiliary = auxiliary(&backbone, &["layer1", "layer3"]).unwrap();
        let count = Tensor::<1, Int>::arange(0..2 * 3 * 32 * 32, &Device::flex()).float();
        let pixels = count.mul_scalar(0.37).sin().mul_scalar(0.5).add_scalar(0.5).reshape([2, 3, 32, 32]);
        // Mean and standard deviation of 1/2 map 0..1 to -1..1.
        let own = backbone.forward(pixels.clone().mul_scalar(2.0).sub_scalar(1.0), &auxiliary.taps).taps;
        let features = auxiliary.features(pixels.clone());
        assert_eq!(features.iter().map(Tensor::dims).collect::<Vec<_>>(), [[2, 32, 8, 8], [2, 128, 2, 2]]);
        let values = |map: &Tensor<4>| map.to_data().iter::<f32>().collect::<Vec<_>>();
        for (feature, own) in features.iter().zip(own) {
            let Tap::Map(own) = own else { panic!("no map") };
            let (feature, own) = (values(feature), values(&own));
            let largest = own.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            assert!(largest > 0.0 && feature.iter().zip(&own).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
        }
        // The explained classifier's normalisation gives other feature maps.
        let others = backbone.forward(explained().normalise(pixels), &auxiliary.taps).taps;
        let Tap::Map(other) = &others[0] else { panic!("no map") };
        assert_ne!(values(&features[0]), values(other));
    }

    #[test]
    fn unknown_taps_and_other_sizes_are_refused() {
        let refused = |name, taps: &[&str]| auxiliary(&backbone(name), taps).unwrap_err().to_string();
        let text = refused("shapes_resnet", &["layer1", "layer9"]);
        assert!(text.starts_with("as the auxiliary: backbone shapes_resnet has no tap \"layer9\""), "{text}");
        let text = refused("vit_small_patch14_dinov2", &["blocks.11"]);
        assert!(
            text.contains("vit_small_patch14_dinov2 takes images of 224 pixels only") && text.contains("32"),
            "{text}"
        );
    }
}
