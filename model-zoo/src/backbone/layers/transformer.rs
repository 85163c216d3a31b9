//! GELU, layer normalisation and attention of a frozen transformer, each as one operation with one gradient.
//!
//! Burn differentiates them through the elementary operations they consist of, each a pass over memory. Weights are constants
//! and get no gradient.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Slice, Tensor};
use explainer_kernels::elements;

use super::flex::{FlexTensor, contiguous, tensor, values, values_mut};

/// The operations for f32, by backend.
#[backend_extension(Flex, Autodiff)]
pub trait Transformer: Backend {
    /// GELU of x of any shape: x P(X <= x) for a standard normal X.
    fn frozen_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// x `[..., W]`, gamma and beta `[W]` to the same shape.
    fn frozen_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// Attention: queries, keys and values of all heads, packed as `[B,N,3W]`, to softmax(Q K^T / sqrt(d)) V `[B,N,W]`.
    fn frozen_attention(packed: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

impl Transformer for Flex {
    fn frozen_gelu(x: FlexTensor) -> FlexTensor {
        let mut x = contiguous(x);
        elements::gelu(values_mut(&mut x));
        x
    }

    fn frozen_layer_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f64) -> FlexTensor {
        Self::layer_norm(x, gamma, Some(beta), epsilon)
    }

    fn frozen_attention(packed: FlexTensor, heads: usize) -> FlexTensor {
        Heads::new(packed, heads).attend().0
    }
}

impl<C: CheckpointStrategy> Transformer for Autodiff<Flex, C> {
    fn frozen_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gelu;

        impl Backward<Flex, 1> for Gelu {
            type State = FlexTensor;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let slope = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| Flex::float_mul(gradient, slope));
            }
        }

        let (x, node) = x.into_parts();
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let mut value = contiguous(x);
                let shape = value.shape();
                let mut slope = vec![0.0; shape.num_elements()];
                elements::gelu_with_slope(values_mut(&mut value), &mut slope);
                prep.finish(tensor(slope, shape), value)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::frozen_gelu(x)),
        }
    }

    fn frozen_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LayerNorm;

        impl Backward<Flex, 1> for LayerNorm {
            type State = (FlexTensor, FlexTensor, f64);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (x, gamma, epsilon) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
                    let mut gradient = contiguous(gradient);
                    let (x, gamma) = (contiguous(x), contiguous(gamma));
                    let to_x = values_mut(&mut gradient);
                    elements::layer_norm_gradient(values(&x), values(&gamma), epsilon as f32, to_x);
                    gradient
                });
            }
        }

        let ((x, node), gamma, beta) = (x.into_parts(), gamma.into_primitive(), beta.into_primitive());
        let value = Flex::frozen_layer_norm(x.clone(), gamma.clone(), beta, epsilon);
        match LayerNorm.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }

    fn frozen_attention(packed: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;

        impl Backward<Flex, 1> for Attention {
            type State = (Heads, FlexTensor);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (heads, weights) = ops.state;
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| heads.gradient(weights, gradient));
            }
        }

        let (packed, node) = packed.into_parts();
        let split = Heads::new(packed, heads);
        let (value, weights) = split.attend();
        match Attention.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((split, weights), value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }
}

/// Views of packed queries, keys and values, each `[B,H,N,d]`.
#[derive(Clone, Debug)]
struct Heads {
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
}

impl Heads {
    /// `packed` is `[B,N,3W]`; `heads` divides W.
    fn new(packed: FlexTensor, heads: usize) -> Self {
        let shape = packed.shape();
        let [batch, tokens, width] = [shape[0], shape[1], shape[2] / 3];
        let split = Flex::float_reshape(packed, Shape::from(vec![batch, tokens, 3 * heads, width / heads]));
        let split = Flex::float_swap_dims(split, 1, 2);
        let part = |i: usize| {
            let range = Slice::from(i * heads..(i + 1) * heads);
            Flex::float_slice(split.clone(), &[Slice::full(), range])
        };
        Self { query: part(0), key: part(1), value: part(2) }
    }

    /// 1 / sqrt(d)
    fn scale(&self) -> f32 {
        (self.query.shape()[3] as f32).sqrt().recip()
    }

    /// The output `[B,N,W]`, and the weights softmax(Q K^T / sqrt(d)) `[B,H,N,N]`.
    fn attend(&self) -> (FlexTensor, FlexTensor) {
        let tokens = self.query.shape()[2];
        let mut weights = contiguous(Flex::float_matmul(self.query.clone(), transposed(self.key.clone())));
        elements::softmax(values_mut(&mut weights), tokens, self.scale());
        let output = Flex::float_matmul(weights.clone(), self.value.clone());
        (merge_heads(output), weights)
    }

    /// The gradient with respect to the packed input, `[B,N,3W]`, given that of the output `[B,N,W]`.
    fn gradient(self, weights: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let shape = self.query.shape();
        let [batch, heads, tokens, depth] = [shape[0], shape[1], shape[2], shape[3]];
        let gradient = Flex::float_reshape(gradient, Shape::from(vec![batch, tokens, heads, depth]));
        let gradient = Flex::float_swap_dims(gradient, 1, 2);
        let to_value = Flex::float_matmul(transposed(weights.clone()), gradient.clone());
        let mut to_scores = contiguous(Flex::float_matmul(gradient, transposed(self.value.clone())));
        elements::softmax_gradient(values(&weights), values_mut(&mut to_scores), tokens, self.scale());
        let to_query = Flex::float_matmul(to_scores.clone(), self.key);
        let to_key = Flex::float_matmul(transposed(to_scores), self.query);
        merge_heads(Flex::float_cat(vec![to_query, to_key, to_value], 1))
    }
}

/// Swaps the last two axes.
fn transposed(x: FlexTensor) -> FlexTensor {
    Flex::float_swap_dims(x, 2, 3)
}

/// `[B,H,N,d]` to `[B,N,H*d]`.
fn merge_heads(x: FlexTensor) -> FlexTensor {
    let shape = x.shape();
    let shape = Shape::from(vec![shape[0], shape[2], shape[1] * shape[3]]);
    Flex::float_reshape(Flex::float_swap_dims(x, 1, 2), shape)
}

/// See [`Transformer::frozen_gelu`].
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::frozen_gelu(x.into_dispatch()))
}

/// See [`Transformer::frozen_layer_norm`].
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(Dispatch::frozen_layer_norm(x, gamma, beta, epsilon))
}

/// See [`Transformer::frozen_attention`].
pub fn attention(packed: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::frozen_attention(packed.into_dispatch(), heads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, Tolerance, activation, module};

    use crate::weights::random::uniform;

    fn tensor<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
        let values: Vec<f32> = uniform(1, name, shape.iter().product()).into_iter().map(|v| 2.0 * v - 1.0).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
    }

    /// Value and input gradient of both, for an input of this shape.
    fn agree(shape: [usize; 3], ours: impl Fn(Tensor<3>) -> Tensor<3>, burn: impl Fn(Tensor<3>) -> Tensor<3>) {
        let run = |function: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            // A view of a larger tensor: the operations must respect offset and strides.
            let leaf = tensor("x", [shape[0], shape[2], shape[1] + 1]).require_grad();
            let x = leaf.clone().narrow(2, 1, shape[1]).swap_dims(1, 2) * 3.0;
            let y = function(x);
            let gradients = (y.clone() * tensor("g", y.dims())).sum().backward();
            (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
        };
        let ((y, gradient), (expected_y, expected)) = (run(&ours), run(&burn));
        y.assert_approx_eq::<f32>(&expected_y, Tolerance::absolute(2e-6));
        gradient.assert_approx_eq::<f32>(&expected, Tolerance::absolute(5e-6));
    }

    #[test]
    fn gelu_is_burn_s() {
        agree([2, 7, 33], gelu, activation::gelu);
    }

    #[test]
    fn layer_norm_is_burn_s() {
        let (gamma, beta) = (tensor("gamma", [40]), tensor("beta", [40]));
        agree(
            [2, 7, 40],
            |x| layer_norm(x, gamma.clone(), beta.clone(), 1e-6),
            |x| module::layer_norm(x, gamma.clone(), Some(beta.clone()), 1e-6),
        );
    }

    #[test]
    fn attention_is_burn_s() {
        let composed = |x: Tensor<3>| {
            let [batch, tokens, width] = x.dims();
            let packed = x.reshape([batch, tokens, 9, width / 9]).swap_dims(1, 2);
            let part = |i: usize| packed.clone().narrow(1, 3 * i, 3);
            let output = module::attention(part(0), part(1), part(2), None, None, Default::default());
            output.swap_dims(1, 2).reshape([batch, tokens, width / 3])
        };
        agree([2, 19, 72], |x| attention(x, 3), composed);
    }
}
