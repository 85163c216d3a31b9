//! A bias that is added in place; its gradient passes unchanged.

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
pub trait BiasAdd: Backend {
    /// x of any shape plus the bias `[C]` along `axis`, whose length is C.
    fn bias_add(x: FloatTensor<Self>, bias: FloatTensor<Self>, axis: usize) -> FloatTensor<Self>;
}

impl BiasAdd for Flex {
    fn bias_add(x: FlexTensor, bias: FlexTensor, axis: usize) -> FlexTensor {
        let (mut x, bias) = (contiguous(x), contiguous(bias));
        let plane = x.shape()[axis + 1..].iter().product();
        elements::bias_add(values_mut(&mut x), values(&bias), plane);
        x
    }
}

impl<C: CheckpointStrategy> BiasAdd for Autodiff<Flex, C> {
    fn bias_add(x: FloatTensor<Self>, bias: FloatTensor<Self>, axis: usize) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Unchanged;

        impl Backward<Flex, 1> for Unchanged {
            type State = ();

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| gradient);
            }
        }

        let (x, node) = x.into_parts();
        let y = Flex::bias_add(x, bias.into_primitive(), axis);
        match Unchanged.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`BiasAdd::bias_add`].
pub fn bias_add<const D: usize>(x: Tensor<D>, bias: Tensor<1>, axis: usize) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::bias_add(x.into_dispatch(), bias.into_dispatch(), axis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    use crate::weights::random::uniform;

    #[test]
    fn value_and_gradient_are_those_of_a_broadcast_sum() {
        let device = Device::flex().autodiff();
        let tensor = |name: &str| Tensor::<3>::from_data(TensorData::new(uniform(1, name, 105), [3, 5, 7]), &device);
        for (axis, shape) in [(0, [3, 1, 1]), (1, [1, 5, 1]), (2, [1, 1, 7])] {
            let length = shape[axis];
            let bias = Tensor::<1>::from_data(TensorData::new(uniform(1, "bias", length), [length]), &device);
            let run = |ours: bool| {
                let leaf = tensor("x").require_grad();
                let y = match ours {
                    true => bias_add(leaf.clone() * 1.0, bias.clone(), axis),
                    false => leaf.clone() + bias.clone().reshape(shape),
                };
                let gradients = (y.clone() * tensor("g")).sum().backward();
                (y.into_data(), leaf.grad(&gradients).unwrap().into_data())
            };
            assert_eq!(run(true), run(false));
        }
    }
}
