//! Gradients of several backward passes as one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Adds the gradients `more` of `module`'s parameters to `gradients`.
pub fn add_gradients<M: Module>(module: &M, gradients: &mut GradientsParams, more: GradientsParams) {
    module.visit(&mut Add { gradients, more });
}

struct Add<'a> {
    gradients: &'a mut GradientsParams,
    more: GradientsParams,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(more) = self.more.remove::<D>(parameter.id) else { return };
        let sum = match self.gradients.remove::<D>(parameter.id) {
            Some(gradient) => gradient + more,
            None => more,
        };
        self.gradients.register(parameter.id, sum);
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn two_backward_passes_add_up() {
        let device = Device::default();
        let layer = LinearConfig::new(2, 3).init(&device.clone().autodiff());
        let (weight, bias) = (layer.weight.id, layer.bias.as_ref().unwrap().id);
        let (mut gradients, mut more) = (GradientsParams::new(), GradientsParams::new());
        gradients.register(weight, Tensor::<2>::ones([2, 3], &device));
        more.register(weight, Tensor::<2>::ones([2, 3], &device));
        more.register(bias, Tensor::<1>::ones([3], &device));
        add_gradients(&layer, &mut gradients, more);
        let weight = gradients.get::<2>(weight).unwrap().into_data();
        let bias = gradients.get::<1>(bias).unwrap().into_data();
        let found: Vec<f32> = weight.iter::<f32>().chain(bias.iter::<f32>()).collect();
        assert_eq!(found, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]);
    }
}
