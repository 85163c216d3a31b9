//! Bias and ReLU in one pass over memory, and their gradient in one pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use explainer_kernels::elements;

use super::flex::{FlexTensor, contiguous, values, values_mut};

/// The operation for f32, by backend. The bias is a constant and gets no gradient.
#[backend_extension(Flex, Autodiff)]
pub trait BiasRelu: Backend {
    /// x `[B,C,H,W]`, bias `[C]` to min(max(x + bias, 0), limit).
    fn bias_relu(x: FloatTensor<Self>, bias: FloatTensor<Self>, limit: f32) -> FloatTensor<Self>;
}

impl BiasRelu for Flex {
    fn bias_relu(x: FlexTensor, bias: FlexTensor, limit: f32) -> FlexTensor {
        let (mut x, bias) = (contiguous(x), contiguous(bias));
        let shape = x.shape();
        elements::bias_relu(values_mut(&mut x), values(&bias), shape[2] * shape[3], limit);
        x
    }
}

impl<C: CheckpointStrategy> BiasRelu for Autodiff<Flex, C> {
    fn bias_relu(x: FloatTensor<Self>, bias: FloatTensor<Self>, limit: f32) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToInput;

        impl Backward<Flex, 1> for ToInput {
            type State = (FlexTensor, f32);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (y, limit) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let (y, mut gradient) = (contiguous(y), contiguous(gradient));
                    elements::relu_gradient(values(&y), values_mut(&mut gradient), limit);
                    gradient
                });
            }
        }

        let (x, node) = x.into_parts();
        let y = Flex::bias_relu(x, bias.into_primitive(), limit);
        match ToInput.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((y.clone(), limit), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`BiasRelu::bias_relu`].
pub fn bias_relu(x: Tensor<4>, bias: Tensor<1>, limit: f32) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::bias_relu(x.into_dispatch(), bias.into_dispatch(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, activation};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_those_of_bias_and_clamp() {
        let device = Device::flex().autodiff();
        let values =
            |name: &str, count: usize| uniform(1, name, count).into_iter().map(|v| 16.0 * v - 6.0).collect::<Vec<_>>();
        let tensor =
            |name: &str| Tensor::<4>::from_data(TensorData::new(values(name, 2 * 3 * 5 * 7), [2, 3, 5, 7]), &device);
        let bias = Tensor::<1>::from_data(TensorData::new(values("bias", 3), [3]), &device);
        for limit in [6.0, f32::INFINITY] {
            let run = |ours: bool| {
                let leaf = tensor("x").require_grad();
                let y = match ours {
                    true => bias_relu(leaf.clone() * 1.0, bias.clone(), limit),
                    false if limit.is_finite() => (leaf.clone() + bias.clone().reshape([1, 3, 1, 1])).clamp(0.0, limit),
                    false => activation::relu(leaf.clone() + bias.clone().reshape([1, 3, 1, 1])),
                };
                let gradients = (y.clone() * tensor("g")).sum().backward();
                (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
            };
            assert_eq!(run(true), run(false));
        }
    }
}
