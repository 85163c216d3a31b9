//! The context of the bandit: the features of an image in a frozen backbone, pooled to one vector.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::adapter::{Adapter, AdapterError};
use crate::backbone::{Backbone, TapId};
use crate::image::Preprocessing;

/// A frozen backbone whose pooled features are the context of an image; ResNet-18 in the paper.
#[derive(Clone, Debug)]
pub struct Encoder {
    backbone: Arc<dyn Backbone>,
    tap: Option<(TapId, Adapter)>,
    /// The side that a transformer's position embeddings are for; others take any.
    side: Option<usize>,
    features: usize,
}

impl Encoder {
    /// The encoder of a backbone's last tap, for square images of `side` pixels.
    ///
    /// # Errors
    /// [`AdapterError`] if a transformer's patches do not tile its own images.
    pub fn new(backbone: Arc<dyn Backbone>, side: usize) -> Result<Self, AdapterError> {
        let spec = backbone.spec();
        let Some(last) = spec.taps.last() else {
            let features = spec.classes;
            return Ok(Self { backbone, tap: None, side: None, features });
        };
        let fixed = last.prefix_tokens.map(|_| spec.preprocessing.crop);
        let adapter = Adapter::new(last, fixed.unwrap_or(side))?;
        let ids = backbone.taps(std::slice::from_ref(&last.name)).unwrap_or_default();
        let features = last.channels;
        Ok(Self { tap: ids.first().map(|id| (*id, adapter)), side: fixed, features, backbone })
    }

    /// The backbone.
    pub fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.backbone
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The features of images `[B,3,H,W]` as `preprocessing` normalised them: the last tap's mean over positions
    /// (patches, for a transformer), one vector an image; the logits of a backbone without taps. One forward pass.
    pub fn encode(&self, images: &Tensor<4>, preprocessing: &Preprocessing) -> Vec<Vec<f64>> {
        let own = &self.backbone.spec().preprocessing;
        let mut images = own.normalise(preprocessing.unnormalise(images.clone()));
        let [_, _, height, width] = images.dims();
        if let Some(side) = self.side.filter(|side| [height, width] != [*side; 2]) {
            let options = InterpolateOptions::new(InterpolateMode::Bilinear);
            images = interpolate(images, options.with_align_corners(false).with_output_size([side; 2]));
        }
        let ids: Vec<TapId> = self.tap.iter().map(|(id, _)| *id).collect();
        let mut seen = self.backbone.forward(images, &ids);
        let pooled = match (seen.taps.pop(), &self.tap) {
            (Some(tap), Some((_, adapter))) => crate::backbone::layers::global_average(adapter.apply(tap)),
            _ => seen.logits,
        };
        let [_, width] = pooled.dims();
        let values: Vec<f64> = pooled.into_data().iter::<f64>().collect();
        values.chunks(width.max(1)).map(<[f64]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{Tap, load};
    use crate::device::Compute;
    use crate::weights::random;
    use burn::tensor::{Device, TensorData};

    fn images(side: usize) -> Tensor<4> {
        let values = random::uniform(1, "images", 2 * 3 * side * side);
        Tensor::from_data(TensorData::new(values, [2, 3, side, side]), &Device::default())
    }

    #[test]
    fn features_are_the_last_maps_means() {
        let backbone = Arc::new(load("shapes_resnet", "embedded", None, &Compute::default(), &mut |_, _| {}).unwrap());
        let own = backbone.spec().preprocessing.clone();
        let encoder = Encoder::new(backbone.clone(), 96).unwrap();
        let images = own.normalise(images(96));
        let found = encoder.encode(&images, &own);
        assert_eq!((found.len(), found[0].len(), encoder.features()), (2, 128, 128));
        let taps = backbone.taps(&["layer3".into()]).unwrap();
        let Tap::Map(map) = backbone.forward(images.clone(), &taps).taps.remove(0) else { panic!("a map") };
        let cells: Vec<f32> = map.into_data().iter::<f32>().collect();
        let channel = &cells[36 * 5..36 * 6];
        assert!((found[0][5] - f64::from(channel.iter().sum::<f32>() / 36.0)).abs() < 1e-5);

        // Another preprocessing is undone first.
        let other = crate::backbone::imagenet();
        let same = encoder.encode(&other.normalise(own.unnormalise(images)), &other);
        assert!(same.iter().flatten().zip(found.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn a_transformer_gets_images_of_its_own_size() {
        let backbone = load("vit_small_patch14_dinov2", "random:1", None, &Compute::default(), &mut |_, _| {}).unwrap();
        let encoder = Encoder::new(Arc::new(backbone), 96).unwrap();
        let found = encoder.encode(&images(96), &crate::backbone::imagenet());
        assert_eq!((found.len(), found[0].len()), (2, 384));
        assert!(found.iter().flatten().all(|x| x.is_finite()));
    }
}
