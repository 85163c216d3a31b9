//! Batch normalisation in training, on all threads.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::module::batch_norm_train;
use burn::tensor::{Shape, Tensor};
use explainer_kernels::batch_norm::BatchStatistics;

use super::flex::{FlexTensor, contiguous, tensor, to_flex, values};
use super::has_custom_ops;

/// Number of values from which on threads pay off.
const MANY: usize = 1 << 20;

/// Batch normalisation in training: x `[B,C,H,W]`, normalised by its batch statistics, times gamma `[C]` plus beta `[C]`. Returns
/// the output and, without a graph, the mean and the biased variance `[C]`.
pub fn normalise_batch(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> (Tensor<4>, [Tensor<1>; 2]) {
    let large = x.shape().num_elements() >= MANY && has_custom_ops(&x);
    match large.then(|| to_flex(&x)).flatten() {
        Some(flex) => custom(x, &contiguous(flex), gamma, beta, epsilon),
        None => {
            let normed = batch_norm_train(x, gamma, beta, epsilon);
            (normed.output, [normed.mean, normed.variance])
        }
    }
}

/// [`normalise_batch`] by the custom operation; `flex` is x without its graph.
fn custom(
    x: Tensor<4>,
    flex: &FlexTensor,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<4>, [Tensor<1>; 2]) {
    let ([_, count, height, width], device) = (x.dims(), x.device());
    let statistics = Arc::new(BatchStatistics::new(values(flex), count, height * width, epsilon));
    let moments = [&statistics.mean, &statistics.variance].map(|part| Tensor::from_floats(&part[..], &device));
    let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
    (Tensor::from_dispatch(Dispatch::normalise_by(x.into_dispatch(), gamma, beta, statistics)), moments)
}

/// The operation for f32, by backend.
#[backend_extension(Flex, Autodiff)]
pub trait BatchNorm: Backend {
    /// x `[B,C,H,W]`, gamma and beta `[C]`, and the statistics of x, to `[B,C,H,W]`.
    fn normalise_by(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: Arc<BatchStatistics>,
    ) -> FloatTensor<Self>;
}

impl BatchNorm for Flex {
    fn normalise_by(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        statistics: Arc<BatchStatistics>,
    ) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(contiguous);
        tensor(statistics.normalise(values(&x), values(&gamma), values(&beta)), x.shape())
    }
}

impl<C: CheckpointStrategy> BatchNorm for Autodiff<Flex, C> {
    fn normalise_by(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: Arc<BatchStatistics>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ToAll;

        impl Backward<Flex, 3> for ToAll {
            type State = (FlexTensor, FlexTensor, Arc<BatchStatistics>);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = contiguous(grads.consume::<Flex>(&ops.node));
                let (x, gamma, statistics) = ops.state;
                let parts = statistics.gradients(values(&x), values(&gamma), values(&gradient));
                let [to_x, to_gamma, to_beta] = parts;
                let shapes = [x.shape(), gamma.shape(), Shape::from(vec![to_beta.len()])];
                for ((parent, part), shape) in ops.parents.into_iter().zip([to_x, to_gamma, to_beta]).zip(shapes) {
                    if let Some(parent) = parent {
                        grads.register::<Flex>(parent.id, tensor(part, shape));
                    }
                }
            }
        }

        let ((x, node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let [x, gamma] = [x, gamma].map(contiguous);
        let y = Flex::normalise_by(x.clone(), gamma.clone(), beta, statistics.clone());
        match ToAll.prepare::<C>([node, gamma_node, beta_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, statistics), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, Tolerance};

    use crate::weights::random::uniform;

    #[test]
    fn values_statistics_and_gradients_are_burn_s() {
        let device = Device::flex().autodiff();
        for [images, count, height, width] in [[2, 3, 4, 5], [3, 1, 1, 2], [4, 17, 7, 7]] {
            let run = |special: bool| {
                let leaf = |name: &str, count: usize| {
                    Tensor::<1>::from_data(TensorData::new(uniform(1, name, count), [count]), &device).require_grad()
                };
                let shape = [images, count, height, width];
                let (stored, gamma, beta) = (leaf("x", shape.iter().product()), leaf("s", count), leaf("b", count));
                // A view: the operation must respect strides.
                let x = stored.clone().reshape([images, count, width, height]).swap_dims(2, 3);
                let (y, statistics) = match special {
                    true => {
                        let flex = contiguous(to_flex(&x).unwrap());
                        custom(x, &flex, gamma.clone(), beta.clone(), 1e-5)
                    }
                    false => {
                        let normed = batch_norm_train(x, gamma.clone(), beta.clone(), 1e-5);
                        (normed.output, [normed.mean, normed.variance])
                    }
                };
                let seed = TensorData::new(uniform(1, "g", y.shape().num_elements()), y.dims());
                let gradients = (y.clone() * Tensor::from_data(seed, &device)).sum().backward();
                let mut found = vec![y.into_data()];
                found.extend(statistics.map(Tensor::into_data));
                found.extend([stored, gamma, beta].map(|leaf| leaf.grad(&gradients).unwrap().into_data()));
                found
            };
            for (found, expected) in run(true).iter().zip(run(false)) {
                found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 5e-5));
            }
        }
    }
}
