//! Gradient clipping by the norm over all parameters, as `torch.nn.utils.clip_grad_norm_`.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{ExecutionError, Tensor},
};

use crate::distributed::CommunicatorError;

/// Keeps the scaling finite where all gradients are zero.
const EPS: f64 = 1e-6;

/// Why a step's gradients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// Some gradients are NaN or infinite.
    #[error(
        "the gradient norm is {norm}, in {}; lower the learning rate, or look at the images of this step",
        .parameters.join(", ")
    )]
    NotFinite {
        /// The norm.
        norm: f64,
        /// Paths of the parameters whose gradients are not finite.
        parameters: Vec<String>,
    },
    /// The norm could not be read from the device.
    #[error("the gradient norm could not be read from the device: {0}")]
    Device(#[from] ExecutionError),
    /// The gradients of the other ranks could not be summed.
    #[error(transparent)]
    Communicator(#[from] CommunicatorError),
}

/// The squared L2 norm of each gradient of a module, on the device until it is read.
#[derive(Clone, Debug)]
pub struct Norms {
    paths: Vec<String>,
    /// `[n]`, one for each path.
    squares: Tensor<1>,
}

impl Norms {
    /// The norms of `module`'s gradients; `None` if there are no gradients.
    pub fn of<M: Module>(module: &M, gradients: &GradientsParams) -> Option<Self> {
        let mut squares = Squares { gradients, path: Vec::new(), found: Vec::new() };
        module.visit(&mut squares);
        let (paths, squares): (Vec<String>, Vec<Tensor<1>>) = squares.found.into_iter().unzip();
        (!squares.is_empty()).then(|| Self { paths, squares: Tensor::cat(squares, 0) })
    }

    /// The squared norms on the device, `[n]`.
    pub fn squares(&self) -> Tensor<1> {
        self.squares.clone()
    }

    /// The norm over all parameters, from the values of [`Norms::squares`].
    ///
    /// # Errors
    /// [`GradientError::NotFinite`] names the parameters whose gradients are NaN or infinite.
    pub fn global_norm(&self, squares: &[f64]) -> Result<f64, GradientError> {
        let norm = squares.iter().sum::<f64>().sqrt();
        if norm.is_finite() {
            return Ok(norm);
        }
        let parameters = self.paths.iter().zip(squares).filter(|(_, s)| !s.is_finite());
        Err(GradientError::NotFinite { norm, parameters: parameters.map(|(path, _)| path.clone()).collect() })
    }
}

/// Scales `module`'s gradients down to the global L2 norm `max_norm` where theirs is larger. The norms stay on the device
/// until they are read.
pub fn clip_gradients<M: Module>(
    module: &M,
    mut gradients: GradientsParams,
    max_norm: Option<f64>,
) -> (GradientsParams, Option<Norms>) {
    let norms = Norms::of(module, &gradients);
    if let (Some(max_norm), Some(norms)) = (max_norm, &norms) {
        let norm = norms.squares().sum().sqrt();
        let factor = (norm + EPS).recip().mul_scalar(max_norm).clamp_max(1.0);
        module.visit(&mut Scale { gradients: &mut gradients, factor });
    }
    (gradients, norms)
}

/// Collects each gradient's sum of squares, on the device.
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

/// Multiplies every gradient by a factor `[1]`.
struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients.register(parameter.id, gradient * self.factor.clone().reshape([1; D]));
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

    fn global_norm(norms: Option<Norms>) -> Result<f64, GradientError> {
        let norms = norms.unwrap();
        norms.global_norm(&norms.squares().into_data().iter::<f64>().collect::<Vec<_>>())
    }

    fn read(layer: &Linear, gradients: &GradientsParams) -> (f32, f32) {
        let weight = gradients.get::<2>(layer.weight.id).unwrap().mean().into_scalar::<f32>();
        let bias = gradients.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().mean().into_scalar::<f32>();
        (weight, bias)
    }

    #[test]
    fn one_norm_over_all_parameters() {
        let (layer, gradients) = given(1.0, 4.0);
        let (gradients, norms) = clip_gradients(&layer, gradients, Some(3.0));
        assert!((global_norm(norms).unwrap() - 6.0).abs() < 1e-6);
        let (weight, bias) = read(&layer, &gradients);
        assert!((weight - 0.5).abs() < 1e-6 && (bias - 2.0).abs() < 1e-6, "{weight} {bias}");
    }

    #[test]
    fn small_or_unlimited_gradients_are_unchanged() {
        for limit in [Some(7.0), None] {
            let (layer, gradients) = given(1.0, 4.0);
            let (gradients, norms) = clip_gradients(&layer, gradients, limit);
            assert!((global_norm(norms).unwrap() - 6.0).abs() < 1e-6);
            assert_eq!(read(&layer, &gradients), (1.0, 4.0));
        }
    }

    #[test]
    fn the_parameter_that_is_not_finite_is_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let (layer, gradients) = given(1.0, bad);
            let (_, norms) = clip_gradients(&layer, gradients, Some(1.0));
            let message = global_norm(norms).unwrap_err().to_string();
            assert!(message.contains(" in bias;"), "{message}");
        }
    }

    #[test]
    fn no_gradients_have_no_norm() {
        let (layer, _) = given(1.0, 1.0);
        let (gradients, norms) = clip_gradients(&layer, GradientsParams::new(), Some(1.0));
        assert!(gradients.is_empty() && norms.is_none());
    }
}
