//! The layer whose feature maps a method reads.

use burn::tensor::{Tensor, activation::relu};

use crate::AttributionError;
use crate::tensors::indices;
use explainer_zoo::adapter::Adapter;
use explainer_zoo::backbone::{Backbone, Tap, TapId, TapSpec};
use explainer_zoo::maps::min_max;
use explainer_zoo::path_integral::one_hot;

/// A tap, and how it becomes feature maps A_1..A_C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    id: TapId,
    adapter: Adapter,
}

/// The output of a layer for a batch of images.
#[derive(Clone, Debug)]
pub(crate) struct LayerOutput {
    /// Logits `[B,K]`.
    pub logits: Tensor<2>,
    /// Feature maps A, `[B,C,h,w]`.
    pub map: Tensor<4>,
    /// Normalised images `[B,3,H,W]`.
    pub images: Tensor<4>,
    tap: Tap,
}

impl LayerOutput {
    /// The output for image `index` alone, a batch of one.
    pub fn image(&self, index: usize) -> Self {
        Self {
            logits: self.logits.clone().narrow(0, index, 1),
            map: self.map.clone().narrow(0, index, 1),
            images: self.images.clone().narrow(0, index, 1),
            tap: self.tap.rows(index, 1),
        }
    }
}

impl Layer {
    /// The layer behind the tap `name`, for square images of `side` pixels.
    ///
    /// # Errors
    /// [`AttributionError::Layer`] lists the taps there are.
    pub fn named(backbone: &dyn Backbone, name: &str, side: usize) -> Result<Self, AttributionError> {
        let unknown = || AttributionError::NoLayer { method: "this method", backbone: backbone.spec().name.clone() };
        let id = backbone.taps(&[name.to_owned()])?.pop().ok_or_else(unknown)?;
        Ok(Self { id, adapter: Adapter::new(backbone.tap(id), side)? })
    }

    /// The default layer of class activation maps: the last default tap of the backbone. For a transformer that classifies
    /// its class token it is the input of the last attention (the last block's first normalisation), since after that
    /// nothing of the logits depends on the patches. `None` for a backbone without taps.
    pub fn default_tap(backbone: &dyn Backbone) -> Option<&TapSpec> {
        let spec = backbone.spec();
        let before_attention = |tap: &&TapSpec| tap.prefix_tokens.is_some() && tap.name.ends_with(".norm1");
        let last = spec.default_taps.last().and_then(|name| spec.tap(name));
        spec.taps.iter().rev().find(before_attention).or(last).or(spec.taps.last())
    }

    /// One forward pass of normalised images `[B,3,H,W]`.
    pub(crate) fn forward(&self, backbone: &dyn Backbone, images: &Tensor<4>) -> Result<LayerOutput, AttributionError> {
        let mut output = backbone.forward(images.clone(), &[self.id]);
        let tap = output.taps.pop().ok_or_else(|| AttributionError::Hidden {
            backbone: backbone.spec().name.clone(),
            layer: backbone.tap(self.id).name.clone(),
        })?;
        Ok(LayerOutput { logits: output.logits, map: self.adapter.apply(tap.clone()), images: images.clone(), tap })
    }

    /// The gradient of each image's class logit with respect to A, `[B,C,h,w]`: a forward and a backward pass.
    pub(crate) fn gradient(&self, backbone: &dyn Backbone, output: &LayerOutput, classes: &[usize]) -> Tensor<4> {
        let class = indices(classes, &output.map.device());
        let vjp = backbone.vjp_at(output.images.clone(), self.id, output.tap.clone(), &one_hot(class));
        self.adapter.apply(vjp.gradient)
    }

    /// Logits `[n,K]` of one image with its feature maps replaced by `maps` `[n,C,h,w]`: n forward passes.
    pub(crate) fn logits_at(&self, backbone: &dyn Backbone, output: &LayerOutput, maps: Tensor<4>) -> Tensor<2> {
        backbone.forward_at(output.images.clone(), self.id, self.as_tap(output, maps))
    }

    /// The gradient of one image's class logit at other feature maps `maps` `[n,C,h,w]`, in their shape: n passes of both
    /// kinds.
    pub(crate) fn gradient_at(
        &self,
        backbone: &dyn Backbone,
        output: &LayerOutput,
        maps: Tensor<4>,
        class: usize,
    ) -> Tensor<4> {
        let class = indices(&vec![class; maps.dims()[0]], &maps.device());
        let feature = self.as_tap(output, maps);
        self.adapter.apply(backbone.vjp_at(output.images.clone(), self.id, feature, &one_hot(class)).gradient)
    }

    /// Maps `[n,C,h,w]` of one image as the backbone takes them. Prefix tokens of a transformer are the image's own.
    fn as_tap(&self, output: &LayerOutput, maps: Tensor<4>) -> Tap {
        match &output.tap {
            Tap::Map(_) => Tap::Map(maps),
            Tap::Tokens(tokens) => {
                let tokens = tokens.clone().repeat_dim(0, maps.dims()[0]);
                self.adapter.restore(maps, &Tap::Tokens(tokens))
            }
        }
    }
}

/// The mean of `[B,C,h,w]` over positions, `[B,C]`.
pub(crate) fn spatial_mean(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// A class activation map: ReLU(sum_k w_k A_k), min-max normalised, of A `[B,C,h,w]` and w `[B,C]`: `[B,1,h,w]`.
pub(crate) fn activation_map(map: Tensor<4>, weights: Tensor<2>) -> Tensor<4> {
    let [batch, channels, ..] = map.dims();
    min_max(relu((map * weights.reshape([batch, channels, 1, 1])).sum_dim(1)))
}
