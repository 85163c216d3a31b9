//! Gradient clipping by the norm over all parameters, as `torch.nn.utils.clip_grad_norm_`.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{ExecutionError, Tensor},
};

use crate::distributed::RankError;

/// Keeps the scaling finite where all gradients are zero.
const EPS: f64 = 1e-6;

/// A step's gradients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// Some gradients are NaN or infinite.
    #[error(
        "the gradient norm is {norm}, in {}; lower the learning rate, or look at the images of this step",
        .parameters.join(", ")
    )]
    NotFinite {
        /// The norm found.
        norm: f64,
        /// Paths of the parameters whose gradients are not finite.
        parameters: Vec<String>,
    },
    /// The device failed before the norm was known.
    #[error("the gradient norm could not be read from the device: {0}")]
    Device(#[from] ExecutionError),
    /// The gradients of the other ranks cannot be had.
    #[error(transparent)]
    Ranks(#[from] RankError),
}

/// Measures the L2 norm of all of `module`'s gradients together and, where it exceeds `max_norm`, scales them down to
/// it. Returns the gradients and the norm before scaling, in one read from the device.
///
/// # Errors
/// When the norm is NaN or infinite, with the parameters at fault.
pub fn clip_gradients<M: Module>(
    module: &M,
    mut gradients: GradientsParams,
    max_norm: Option<f64>,
) -> Result<(GradientsParams, f64), GradientError> {
    let mut squares = Squares { gradients: &gradients, path: Vec::new(), found: Vec::new() };
    module.visit(&mut squares);
    let (paths, squares): (Vec<String>, Vec<Tensor<1>>) = squares.found.into_iter().unzip();
    if squares.is_empty() {
        return Ok((gradients, 0.0));
    }
    let squares: Vec<f64> = Tensor::cat(squares, 0).try_into_data()?.iter::<f64>().collect();
    let norm = squares.iter().sum::<f64>().sqrt();
    if !norm.is_finite() {
        let parameters = paths.into_iter().zip(squares).filter(|(_, s)| !s.is_finite()).map(|(path, _)| path).collect();
        return Err(GradientError::NotFinite { norm, parameters });
    }
    if let Some(max_norm) = max_norm.filter(|max_norm| norm > *max_norm) {
        module.visit(&mut Scale { gradients: &mut gradients, factor: max_norm / (norm + EPS) });
    }
    Ok((gradients, norm))
}

/// Collects each gradient's sum of squares, left on the device.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    found: Vec<(String, Tensor<1>)>,
}

impl ModuleVisitor for Squares<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.found.push((self.path.join("."), gradient.square().sum()));
        }
    }
}

/// Multiplies every gradient by a factor.
struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients.register(parameter.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::{Linear, LinearConfig},
        tensor::Device,
    };

    /// A layer whose gradients are `weight` (4 times) and `bias` (twice).
    fn given(weight: f32, bias: f32) -> (Linear, GradientsParams) {
        let device = Device::default();
        let layer = LinearConfig::new(2, 2).init(&device.clone().autodiff());
        let mut gradients = GradientsParams::new();
        gradients.register(layer.weight.id, Tensor::<2>::full([2, 2], weight, &device));
        gradients.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::full([2], bias, &device));
        (layer, gradients)
    }

    fn read(layer: &Linear, gradients: &GradientsParams) -> (f32, f32) {
        let weight = gradients.get::<2>(layer.weight.id).unwrap().mean().into_scalar::<f32>();
        let bias = gradients.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().mean().into_scalar::<f32>();
        (weight, bias)
    }

    #[test]
    fn one_norm_over_all_parameters() {
        let (layer, gradients) = given(1.0, 4.0);
        let (gradients, norm) = clip_gradients(&layer, gradients, Some(3.0)).unwrap();
        assert!((norm - 6.0).abs() < 1e-6);
        let (weight, bias) = read(&layer, &gradients);
        assert!((weight - 0.5).abs() < 1e-6 && (bias - 2.0).abs() < 1e-6, "{weight} {bias}");
    }

    #[test]
    fn small_or_unlimited_gradients_are_left_alone() {
        for limit in [Some(7.0), None] {
            let (layer, gradients) = given(1.0, 4.0);
            let (gradients, norm) = clip_gradients(&layer, gradients, limit).unwrap();
            assert!((norm - 6.0).abs() < 1e-6);
            assert_eq!(read(&layer, &gradients), (1.0, 4.0));
        }
    }

    #[test]
    fn the_parameter_at_fault_is_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let (layer, gradients) = given(1.0, bad);
            let message = clip_gradients(&layer, gradients, Some(1.0)).unwrap_err().to_string();
            assert!(message.contains(" in bias;"), "{message}");
        }
    }

    #[test]
    fn no_gradients_have_no_norm() {
        let (layer, _) = given(1.0, 1.0);
        let (gradients, norm) = clip_gradients(&layer, GradientsParams::new(), Some(1.0)).unwrap();
        assert!(gradients.is_empty() && norm == 0.0);
    }
}
