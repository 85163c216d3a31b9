//! A bf16 network with an f32 interface.

use burn::tensor::{FloatDType, Tensor};

use super::network::{Network, TapHook};

/// A network that computes in bf16. Images, logits and tapped feature maps are f32.
///
/// Only what the hook needs is converted: a pass costs two conversions and those of its taps.
#[derive(Debug)]
pub struct Bf16Network(pub Box<dyn Network>);

impl Network for Bf16Network {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        to_f32(self.0.forward(to_bf16(images), &mut F32Hook(hook)))
    }
}

fn to_bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16)
}

fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// Converts for a hook: bf16 to f32, and back.
struct F32Hook<'a>(&'a mut dyn TapHook);

impl TapHook for F32Hook<'_> {
    fn needs(&self, name: &str) -> bool {
        self.0.needs(name)
    }

    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        if self.0.needs(name) { to_bf16(self.0.map(name, to_f32(x))) } else { x }
    }

    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        if self.0.needs(name) { to_bf16(self.0.tokens(name, to_f32(x))) } else { x }
    }

    fn needs_attention(&self) -> bool {
        self.0.needs_attention()
    }

    fn attention_weights(&mut self, weights: Tensor<4>, values: &Tensor<4>) -> Tensor<4> {
        to_bf16(self.0.attention_weights(to_f32(weights), &to_f32(values.clone())))
    }

    fn attention_output(&mut self, output: Tensor<3>) -> Tensor<3> {
        to_bf16(self.0.attention_output(to_f32(output)))
    }
}
