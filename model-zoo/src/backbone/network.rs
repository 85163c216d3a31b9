//! What an architecture has to provide: one forward function that passes its feature maps through a hook.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// A feature map as a network returns it.
#[derive(Clone, Debug)]
pub enum Tap {
    /// A convolutional feature map `[B,C,H,W]`.
    Map(Tensor<4>),
    /// Transformer tokens `[B,N,C]`: prefix tokens (class token, registers), then patches in row-major order.
    Tokens(Tensor<3>),
}

impl Tap {
    /// The number of images.
    pub fn batch(&self) -> usize {
        match self {
            Self::Map(x) => x.dims()[0],
            Self::Tokens(x) => x.dims()[0],
        }
    }

    /// Images `from..from + count`.
    pub fn rows(&self, from: usize, count: usize) -> Self {
        match self {
            Self::Map(x) => Self::Map(x.clone().narrow(0, from, count)),
            Self::Tokens(x) => Self::Tokens(x.clone().narrow(0, from, count)),
        }
    }

    /// Concatenates batches of one kind and shape. `None` for no parts or for mixed kinds.
    pub fn stack(parts: Vec<Self>) -> Option<Self> {
        let mut maps = Vec::new();
        let mut tokens = Vec::new();
        for part in parts {
            match part {
                Self::Map(x) => maps.push(x),
                Self::Tokens(x) => tokens.push(x),
            }
        }
        match (maps.is_empty(), tokens.is_empty()) {
            (false, true) => Some(Self::Map(cat(maps))),
            (true, false) => Some(Self::Tokens(cat(tokens))),
            _ => None,
        }
    }
}

/// Concatenates along the batch. A single part is returned without a copy.
pub(crate) fn cat<const D: usize>(mut parts: Vec<Tensor<D>>) -> Tensor<D> {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            Tensor::cat(parts, 0)
        }
    }
}

/// A hook that gets every tapped feature map during a forward pass and returns the tensor to go on with.
///
/// Returning another tensor replaces the feature map: this is how a gradient with respect to a feature map is taken, and how
/// a masked feature map is classified.
pub trait TapHook {
    /// Whether the hook reads or replaces the feature map of this name. Others need not be passed to it.
    fn needs(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// A convolutional feature map `[B,C,H,W]`.
    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        let _ = name;
        x
    }

    /// Tokens `[B,N,C]`.
    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let _ = name;
        x
    }

    /// Whether the hook reads attention. Only then a network computes the attention weights as a tensor, which takes more time
    /// and memory than the output alone.
    fn needs_attention(&self) -> bool {
        false
    }

    /// The attention of a block: weights `[B,H,N,N]`, whose rows sum to 1, and values `[B,H,N,d]`. Called if
    /// [`TapHook::needs_attention`].
    fn attention_weights(&mut self, weights: Tensor<4>, values: &Tensor<4>) -> Tensor<4> {
        let _ = values;
        weights
    }

    /// The output of the same block's heads, concatenated: weights times values, `[B,N,H d]`. Called after
    /// [`TapHook::attention_weights`].
    fn attention_output(&mut self, output: Tensor<3>) -> Tensor<3> {
        output
    }
}

/// A hook that reads nothing.
pub struct NoHook;
impl TapHook for NoHook {
    fn needs(&self, _: &str) -> bool {
        false
    }
}

/// A frozen network. Weights are constants: with an autodiff image only the image gets a gradient.
pub trait Network: Debug + Send + Sync {
    /// Normalised images `[B,3,H,W]` to logits `[B,K]`. Every tap of the architecture passes through `hook` by its name.
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2>;
}
