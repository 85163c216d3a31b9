//! The patch tokens of a vision transformer.

use burn::tensor::Tensor;
use explainer_zoo::adapter::Adapter;
use explainer_zoo::backbone::{Backbone, BlockAttention, Tap};
use explainer_zoo::path_integral::one_hot;

use crate::tensors::{chunks, indices};
use crate::{AttributionError, MethodContext, MethodInfo};

/// Images whose attention is in memory at a time: with its gradient 45 MB each for a ViT-B/16 on 224 pixels.
const IMAGES: usize = 4;

/// The position of the patches among a transformer's tokens, and their grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    adapter: Adapter,
    method: &'static str,
}

impl Patches {
    /// The patches of the classifier that a method is built for.
    ///
    /// # Errors
    /// As [`Patches::of`].
    pub(crate) fn of_context(context: &MethodContext<'_>, info: &MethodInfo) -> Result<Self, AttributionError> {
        Self::of(context.backbone, context.preprocessing.crop, info.name)
    }

    /// The patches of a classifier for square images of `side` pixels. `method` is named in errors.
    ///
    /// # Errors
    /// [`AttributionError::NoAttention`] for a backbone that is no vision transformer; [`AttributionError::NotSquare`].
    pub fn of(backbone: &dyn Backbone, side: usize, method: &'static str) -> Result<Self, AttributionError> {
        let tap = backbone.spec().taps.iter().rev().find(|tap| tap.prefix_tokens.is_some());
        let tap = tap.ok_or_else(|| missing(backbone, method))?;
        Ok(Self { adapter: Adapter::new(tap, side)?, method })
    }

    /// Token values `[B,N]` as a map of the patches `[B,1,h,w]`.
    pub(super) fn map(&self, tokens: Tensor<2>) -> Tensor<4> {
        self.adapter.apply(Tap::Tokens(tokens.unsqueeze_dim(2)))
    }

    /// Applies `map` to the attention of all blocks, a few images at a time. With `classes` the attention has gradients of
    /// their logits.
    pub(super) fn explain(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: Option<&[usize]>,
        map: impl Fn(Vec<BlockAttention>) -> Tensor<4>,
    ) -> Result<Tensor<4>, AttributionError> {
        let mut maps = Vec::new();
        for chunk in chunks(images.dims()[0], IMAGES) {
            let some = images.clone().narrow(0, chunk.start, chunk.len());
            let targets = classes.and_then(|classes| classes.get(chunk));
            let blocks = match targets {
                Some(classes) => {
                    let cotangent = one_hot(indices(classes, &images.device()));
                    backbone.attention(some, Some(&cotangent))
                }
                None => backbone.attention(some, None),
            };
            maps.push(map(blocks.ok_or_else(|| missing(backbone, self.method))?));
        }
        Ok(Tensor::cat(maps, 0))
    }
}

fn missing(backbone: &dyn Backbone, method: &'static str) -> AttributionError {
    AttributionError::NoAttention { method, backbone: backbone.spec().name.clone() }
}

/// The mean of `[B,H,N,N]` over the heads: `[B,N,N]`.
pub(super) fn mean_of_heads(weights: Tensor<4>) -> Tensor<3> {
    let [batch, _, rows, columns] = weights.dims();
    weights.mean_dim(1).reshape([batch, rows, columns])
}

/// The row of the class token, the first, of `[B,N,N]`: `[B,N]`.
pub(super) fn class_row(x: Tensor<3>) -> Tensor<2> {
    let [batch, _, tokens] = x.dims();
    x.narrow(1, 0, 1).reshape([batch, tokens])
}

/// An identity matrix for each image, in the shape of `like` `[B,N,N]`.
pub(super) fn identity(like: &Tensor<3>) -> Tensor<3> {
    let [batch, tokens, _] = like.dims();
    Tensor::<2>::eye(tokens, &like.device()).unsqueeze::<3>().repeat_dim(0, batch)
}
