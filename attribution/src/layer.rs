//! The layer whose feature maps a class activation map weighs.

use burn::tensor::{Tensor, activation::relu};

use super::AttributionError;
use super::tensors::indices;
use explainer_zoo::adapter::Adapter;
use explainer_zoo::backbone::{Backbone, Tap, TapId, TapSpec};
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

/// A tap and how it becomes feature maps A_1..A_C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    id: TapId,
    adapter: Adapter,
}

/// What a layer shows of images.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// A, `[B,C,h,w]`.
    pub map: Tensor<4>,
    /// `[B,3,H,W]`
    images: Tensor<4>,
    tap: Tap,
}

impl Seen {
    /// That of one image alone.
    pub fn one(&self, image: usize) -> Self {
        Self {
            logits: self.logits.clone().narrow(0, image, 1),
            map: self.map.clone().narrow(0, image, 1),
            images: self.images.clone().narrow(0, image, 1),
            tap: self.tap.rows(image, 1),
        }
    }

    /// The image, normalised `[1,3,H,W]`, where it is that of one alone.
    pub fn image(&self) -> &Tensor<4> {
        &self.images
    }
}

impl Layer {
    /// The layer of this name, for square images of `side` pixels.
    ///
    /// # Errors
    /// [`AttributionError::Layer`] lists those there are.
    pub fn named(backbone: &dyn Backbone, name: &str, side: usize) -> Result<Self, AttributionError> {
        let unknown = || AttributionError::NoLayer { method: "this method", backbone: backbone.spec().name.clone() };
        let id = backbone.taps(&[name.to_owned()])?.pop().ok_or_else(unknown)?;
        Ok(Self { id, adapter: Adapter::new(backbone.tap(id), side)? })
    }

    /// The layer that a class activation map of this classifier is drawn from: the last that its explainers tap by
    /// default. In a transformer whose class token alone is classified nothing after the last attention depends on the
    /// patches, so that it is the input of that: the last block's first normalisation.
    pub fn usual(backbone: &dyn Backbone) -> Option<&TapSpec> {
        let spec = backbone.spec();
        let before_attention = |tap: &&TapSpec| tap.prefix_tokens.is_some() && tap.name.ends_with(".norm1");
        let last = spec.default_taps.last().and_then(|name| spec.tap(name));
        spec.taps.iter().rev().find(before_attention).or(last).or(spec.taps.last())
    }

    /// What it shows of normalised images `[B,3,H,W]`, in one forward pass.
    pub(super) fn look(&self, backbone: &dyn Backbone, images: &Tensor<4>) -> Result<Seen, AttributionError> {
        let mut seen = backbone.forward(images.clone(), &[self.id]);
        let tap = seen.taps.pop().ok_or_else(|| AttributionError::Hidden {
            backbone: backbone.spec().name.clone(),
            layer: backbone.tap(self.id).name.clone(),
        })?;
        Ok(Seen { logits: seen.logits, map: self.adapter.apply(tap.clone()), images: images.clone(), tap })
    }

    /// The gradient of each image's class's logit with respect to A, `[B,C,h,w]`: a forward and a backward pass.
    pub(super) fn gradient(&self, backbone: &dyn Backbone, seen: &Seen, classes: &[usize]) -> Tensor<4> {
        let class = indices(classes, &seen.map.device());
        let answer = backbone.vjp_at(seen.images.clone(), self.id, seen.tap.clone(), &one_hot(class));
        self.adapter.apply(answer.gradient)
    }

    /// Logits `[n,K]` of one image with other feature maps `[n,C,h,w]` in the place of its own: n forward passes.
    pub(super) fn logits(&self, backbone: &dyn Backbone, seen: &Seen, maps: Tensor<4>) -> Tensor<2> {
        backbone.forward_at(seen.images.clone(), self.id, self.in_place(seen, maps))
    }

    /// The gradient of one image's class's logit at other feature maps `[n,C,h,w]`, in their shape: n passes of both
    /// kinds.
    pub(super) fn gradient_at(&self, backbone: &dyn Backbone, seen: &Seen, maps: Tensor<4>, class: usize) -> Tensor<4> {
        let class = indices(&vec![class; maps.dims()[0]], &maps.device());
        let feature = self.in_place(seen, maps);
        self.adapter.apply(backbone.vjp_at(seen.images.clone(), self.id, feature, &one_hot(class)).gradient)
    }

    /// Maps as the backbone takes them; tokens before a transformer's patches stay the image's own.
    fn in_place(&self, seen: &Seen, maps: Tensor<4>) -> Tap {
        match &seen.tap {
            Tap::Map(_) => Tap::Map(maps),
            Tap::Tokens(tokens) => {
                let tokens = tokens.clone().repeat_dim(0, maps.dims()[0]);
                self.adapter.restore(maps, &Tap::Tokens(tokens))
            }
        }
    }
}

/// The mean of `[B,C,h,w]` over positions, `[B,C]`.
pub(super) fn spatial_mean(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// ReLU(sum_k w_k A_k), stretched to 0..1: A `[B,C,h,w]` and w `[B,C]` to `[B,1,h,w]`.
pub(super) fn activation_map(map: Tensor<4>, weights: Tensor<2>) -> Tensor<4> {
    let [batch, channels, ..] = map.dims();
    min_max(relu((map * weights.reshape([batch, channels, 1, 1])).sum_dim(1)))
}
