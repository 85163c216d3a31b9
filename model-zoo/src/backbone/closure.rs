//! A classifier given as a Rust closure.

use std::fmt;

use burn::tensor::Tensor;

use super::network::{Network, Tap, TapHook};
use super::spec::{BackboneSpec, TapSpec};
use super::{Backbone, BackboneOutput, Cotangent, Frozen, TapId, Vjp};
use crate::image::{Filter, Preprocessing};

/// A [`Backbone`] over a closure from normalised images `[B,3,H,W]` to logits `[B,K]`.
///
/// The closure computes with Burn tensors only, so that Burn's autodiff can differentiate it: gradients and everything
/// that builds on them work without further code. Tensors that it captures are constants. It is called with a whole
/// batch, on the device of the images, and must treat the images of a batch independently.
///
/// ```
/// use burn::tensor::Tensor;
/// use explainer_zoo::backbone::{Backbone, ClosureBackbone};
///
/// // The logit of each of 3 classes is the mean of a colour channel.
/// let colours = ClosureBackbone::new("colours", 32, 3, |images| {
///     let [batch, channels, height, width] = images.dims();
///     images.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
/// });
/// let images = Tensor::ones([2, 3, 32, 32], &Default::default());
/// assert_eq!(colours.forward(images, &[]).logits.dims(), [2, 3]);
/// ```
#[derive(Debug)]
pub struct ClosureBackbone(Frozen);

impl ClosureBackbone {
    /// A classifier of `classes` classes for square images of `side` pixels, without taps.
    ///
    /// Its images are pixels in 0..=1, unless [`ClosureBackbone::with_preprocessing`] says otherwise.
    pub fn new(
        name: impl Into<String>,
        side: usize,
        classes: usize,
        forward: impl Fn(Tensor<4>) -> Tensor<2> + Send + Sync + 'static,
    ) -> Self {
        Self::with_taps(name, side, classes, Vec::new(), move |images, _| forward(images))
    }

    /// A classifier with taps. The closure passes the feature map of each tap through the hook and goes on with what the
    /// hook returns: `x = hook.map("layer1", x)`, or `hook.tokens("blocks.0", x)`. All taps are default taps.
    pub fn with_taps(
        name: impl Into<String>,
        side: usize,
        classes: usize,
        taps: Vec<TapSpec>,
        forward: impl Fn(Tensor<4>, &mut dyn TapHook) -> Tensor<2> + Send + Sync + 'static,
    ) -> Self {
        let names: Vec<String> = taps.iter().map(|tap| tap.name.clone()).collect();
        let spec = BackboneSpec {
            name: name.into(),
            preprocessing: Preprocessing {
                resize: side,
                crop: side,
                filter: Filter::default(),
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            classes,
            taps,
            default_taps: names.clone(),
            auxiliary_taps: names,
            weights_sha256: None,
        };
        Self(Frozen::from_network(Box::new(ClosureNetwork(Box::new(forward))), spec))
    }

    /// The same classifier with other preprocessing of its images.
    #[must_use]
    pub fn with_preprocessing(mut self, preprocessing: Preprocessing) -> Self {
        self.0.set_preprocessing(preprocessing);
        self
    }
}

impl Backbone for ClosureBackbone {
    fn spec(&self) -> &BackboneSpec {
        self.0.spec()
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        self.0.forward(images, taps)
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        self.0.vjp(images, cotangent)
    }

    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        self.0.vjp_at(images, tap, feature, cotangent)
    }

    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        self.0.forward_at(images, tap, feature)
    }
}

type Forward = dyn Fn(Tensor<4>, &mut dyn TapHook) -> Tensor<2> + Send + Sync;

/// The closure as a network.
struct ClosureNetwork(Box<Forward>);

impl fmt::Debug for ClosureNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClosureNetwork")
    }
}

impl Network for ClosureNetwork {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        (self.0)(images, hook)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, activation::tanh};

    use crate::weights::random::uniform;

    const SIDE: usize = 4;
    const CLASSES: usize = 3;

    fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
        let values = uniform(1, name, shape.iter().product()).into_iter().map(|v| v - 0.5).collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    /// tanh(2 x) is the tap; a linear layer of a captured weight follows.
    fn backbone() -> ClosureBackbone {
        let weight = random("weight", [3 * SIDE * SIDE, CLASSES]);
        ClosureBackbone::with_taps("test", SIDE, CLASSES, vec![TapSpec::map("hidden", 3, 1)], move |images, hook| {
            let hidden = hook.map("hidden", tanh(images * 2.0));
            let [batch, ..] = hidden.dims();
            hidden.reshape([batch, 3 * SIDE * SIDE]).matmul(weight.clone())
        })
    }

    /// <logits, cotangent> of one image.
    fn inner(logits: Tensor<2>, cotangent: &Tensor<2>) -> f32 {
        values((logits * cotangent.clone()).sum())[0]
    }

    #[test]
    fn forward_returns_logits_and_taps() {
        let images = random("images", [5, 3, SIDE, SIDE]);
        let plain = ClosureBackbone::new("mean", SIDE, 1, |images| {
            let [batch, ..] = images.dims();
            images.reshape([batch, 3 * SIDE * SIDE]).mean_dim(1)
        });
        let logits = values(plain.forward(images.clone(), &[]).logits);
        let expected = values(images.clone().reshape([5, 3 * SIDE * SIDE]).mean_dim(1));
        assert_eq!(logits, expected);
        assert!(plain.spec().taps.is_empty() && plain.spec().fixed_side().is_none());

        let backbone = backbone();
        let taps = backbone.taps(&["hidden".into()]).unwrap();
        let output = backbone.forward(images.clone(), &taps);
        assert_eq!(output.logits.dims(), [5, CLASSES]);
        let [Tap::Map(map)] = &output.taps[..] else { panic!("one map") };
        assert_eq!(values(map.clone()), values(tanh(images * 2.0)));
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let backbone = backbone();
        let taps = backbone.taps(&["hidden".into()]).unwrap();
        let (image, cotangent) = (random("image", [1, 3, SIDE, SIDE]), random("cotangent", [1, CLASSES]));
        let pull = |logits: Tensor<2>, _: std::ops::Range<usize>| {
            assert_eq!(logits.dims(), [1, CLASSES]);
            cotangent.clone()
        };
        let direction = random("direction", [1, 3, SIDE, SIDE]);
        let step = 1e-2;
        let slope = |gradient: Tap| {
            let Tap::Map(gradient) = gradient else { panic!("a map") };
            values((gradient * direction.clone()).sum())[0]
        };
        let difference = |at: &dyn Fn(Tensor<4>) -> f32, x: &Tensor<4>| {
            let by = direction.clone() * step;
            (at(x.clone() + by.clone()) - at(x.clone() - by)) / (2.0 * step)
        };

        let at_image = |x: Tensor<4>| inner(backbone.forward(x, &[]).logits, &cotangent);
        let (found, expected) = (slope(backbone.vjp(image.clone(), &pull).gradient), difference(&at_image, &image));
        assert!((found - expected).abs() < 1e-2 * expected.abs().max(0.1), "{found} for {expected}");

        let feature = tanh(image.clone() * 2.0);
        let at_tap = |x: Tensor<4>| inner(backbone.forward_at(image.clone(), taps[0], Tap::Map(x)), &cotangent);
        let vjp = backbone.vjp_at(image.clone(), taps[0], Tap::Map(feature.clone()), &pull);
        assert_eq!(values(vjp.logits), values(backbone.forward(image.clone(), &[]).logits));
        let (found, expected) = (slope(vjp.gradient), difference(&at_tap, &feature));
        assert!((found - expected).abs() < 1e-2 * expected.abs().max(0.1), "{found} for {expected}");
    }
}
