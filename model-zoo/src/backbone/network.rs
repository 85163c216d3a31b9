//! What an architecture has to provide: one forward function that shows its feature maps on the way.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// A feature map as a network makes it.
#[derive(Clone, Debug)]
pub enum Tap {
    /// A convolutional feature map `[B,C,H,W]`.
    Map(Tensor<4>),
    /// Transformer tokens `[B,N,C]`: the prefix (class token, registers), then patches in row-major order.
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

    /// Stacks batches on top of each other; they must be of one kind and shape. `None` for no parts or mixed kinds.
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

/// Concatenates along the batch; one part is handed through without a copy.
pub(crate) fn cat<const D: usize>(mut parts: Vec<Tensor<D>>) -> Tensor<D> {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            Tensor::cat(parts, 0)
        }
    }
}

/// Sees every named feature map while a network runs, and may put another tensor in its place.
///
/// Returning something else than what was shown is how a gradient is taken with respect to a feature map, and how a
/// masked feature map is classified.
pub trait TapHook {
    /// Whether it looks at the feature map of this name, or replaces it: the others need not be shown.
    fn watches(&self, name: &str) -> bool {
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

    /// Whether it looks at attention. Only for a watch that does a network computes the weights as a tensor of their own,
    /// which takes more time and memory than the attended values alone.
    fn attends(&self) -> bool {
        false
    }

    /// How a block's tokens attend to each other, each of H heads: weights `[B,H,N,N]`, whose rows sum to 1, and values
    /// `[B,H,N,d]`. Called where [`TapHook::attends`].
    fn weights(&mut self, weights: Tensor<4>, values: &Tensor<4>) -> Tensor<4> {
        let _ = values;
        weights
    }

    /// What the heads of the same block see, side by side: weights times values, `[B,N,H d]`. Called after
    /// [`TapHook::weights`].
    fn heads(&mut self, seen: Tensor<3>) -> Tensor<3> {
        seen
    }
}

/// Watches nothing.
pub struct NoHook;
impl TapHook for NoHook {
    fn watches(&self, _: &str) -> bool {
        false
    }
}

/// A frozen network: weights are constants, so with an autodiff image the gradient reaches the image alone.
pub trait Network: Debug + Send + Sync {
    /// Normalised images `[B,3,H,W]` to logits `[B,K]`, showing every tap of the architecture to `watch` by its name.
    fn forward(&self, images: Tensor<4>, watch: &mut dyn TapHook) -> Tensor<2>;
}
