//! Sums of gradients: over ranks, and over several backward passes.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor, TensorData};

use super::clip::GradientError;
use crate::distributed::ProcessGroup;

/// A rank's gradients as one vector for the all-reduce: other values first, then the gradients in the module's order.
#[derive(Debug)]
pub struct FlatGradients {
    values: Vec<f32>,
    beside: usize,
    failure: Option<ExecutionError>,
}

impl FlatGradients {
    /// The gradients of `module`'s parameters, behind the values `beside`.
    pub fn new<M: Module>(module: &M, gradients: &GradientsParams, beside: Vec<f32>) -> Self {
        let mut flat = Flatten { gradients, beside: beside.len(), values: beside, failure: None };
        module.visit(&mut flat);
        Self { values: flat.values, beside: flat.beside, failure: flat.failure }
    }

    /// Sums over all ranks. A rank whose device has failed takes part, so that the others do not wait, and returns its error
    /// afterwards.
    ///
    /// # Errors
    /// [`GradientError::Device`] and [`GradientError::Communicator`].
    pub fn all_reduce_sum(&mut self, group: &ProcessGroup) -> Result<(), GradientError> {
        let sum = group.all_reduce_sum(&mut self.values);
        match self.failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok(sum?),
        }
    }

    /// Replaces `gradients` by the sums; returns the other values.
    pub fn restore<M: Module>(self, module: &M, gradients: &mut GradientsParams) -> Vec<f32> {
        let mut beside = self.values;
        let rest = beside.split_off(self.beside.min(beside.len()));
        module.visit(&mut Unflatten { gradients, rest: &rest });
        beside
    }
}

struct Flatten<'a> {
    gradients: &'a GradientsParams,
    values: Vec<f32>,
    beside: usize,
    failure: Option<ExecutionError>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(parameter.id) else { return };
        let count = gradient.shape().num_elements();
        match gradient.try_into_data() {
            Ok(data) => self.values.extend(data.iter::<f32>()),
            Err(failure) => {
                self.values.extend(std::iter::repeat_n(f32::NAN, count));
                self.failure = Some(failure);
            }
        }
    }
}

struct Unflatten<'a> {
    gradients: &'a mut GradientsParams,
    rest: &'a [f32],
}

impl ModuleVisitor for Unflatten<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(old) = self.gradients.remove::<D>(parameter.id) else { return };
        let (own, rest) = self.rest.split_at_checked(old.shape().num_elements()).unwrap_or((self.rest, &[]));
        self.rest = rest;
        let data = TensorData::new(own.to_vec(), old.shape());
        self.gradients.register(parameter.id, Tensor::<D>::from_data(data, &old.device()));
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;
    use crate::distributed::ThreadCommunicator;

    fn given(weight: f32, bias: f32) -> (Linear, GradientsParams) {
        let device = Device::default();
        let layer = LinearConfig::new(2, 3).init(&device.clone().autodiff());
        let mut gradients = GradientsParams::new();
        gradients.register(layer.weight.id, Tensor::<2>::full([2, 3], weight, &device));
        gradients.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::full([3], bias, &device));
        (layer, gradients)
    }

    fn read(layer: &Linear, gradients: &GradientsParams) -> Vec<f32> {
        let weight = gradients.get::<2>(layer.weight.id).unwrap().into_data();
        let bias = gradients.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().into_data();
        weight.iter::<f32>().chain(bias.iter::<f32>()).collect()
    }

    #[test]
    fn every_rank_gets_the_sum() {
        let sums: Vec<_> = std::thread::scope(|scope| {
            let rank = |ranks: ThreadCommunicator| {
                scope.spawn(move || {
                    let group = ProcessGroup::new(ranks);
                    let (layer, mut gradients) = given(1.0 + group.rank() as f32, 10.0);
                    let mut flat = FlatGradients::new(&layer, &gradients, vec![0.5, group.rank() as f32]);
                    flat.all_reduce_sum(&group).unwrap();
                    let beside = flat.restore(&layer, &mut gradients);
                    (read(&layer, &gradients), beside)
                })
            };
            let ranks: Vec<_> = ThreadCommunicator::new(3).into_iter().map(rank).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        for (gradients, beside) in sums {
            assert_eq!(gradients, [6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 30.0, 30.0, 30.0]);
            assert_eq!(beside, [1.5, 3.0]);
        }
    }
}
