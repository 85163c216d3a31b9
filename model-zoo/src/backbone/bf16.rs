//! A network in bf16 that is one in f32 to whoever looks at it.

use burn::tensor::{FloatDType, Tensor};

use super::network::{Network, TapHook};

/// A network whose weights are bf16. Images, logits and what is watched are f32.
///
/// Only what a watch asks for is converted, so that a pass costs two conversions besides its taps'.
#[derive(Debug)]
pub struct Bf16Network(pub Box<dyn Network>);

impl Network for Bf16Network {
    fn forward(&self, images: Tensor<4>, watch: &mut dyn TapHook) -> Tensor<2> {
        full(self.0.forward(reduced(images), &mut Shown(watch)))
    }
}

fn reduced<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16)
}

fn full<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// Shows f32 to a watch, and takes bf16 from it.
struct Shown<'a>(&'a mut dyn TapHook);

impl TapHook for Shown<'_> {
    fn watches(&self, name: &str) -> bool {
        self.0.watches(name)
    }

    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        if self.0.watches(name) { reduced(self.0.map(name, full(x))) } else { x }
    }

    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        if self.0.watches(name) { reduced(self.0.tokens(name, full(x))) } else { x }
    }

    fn attends(&self) -> bool {
        self.0.attends()
    }

    fn weights(&mut self, weights: Tensor<4>, values: &Tensor<4>) -> Tensor<4> {
        reduced(self.0.weights(full(weights), &full(values.clone())))
    }

    fn heads(&mut self, seen: Tensor<3>) -> Tensor<3> {
        reduced(self.0.heads(full(seen)))
    }
}
