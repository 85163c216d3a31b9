//! A loaded TorchScript module and its methods, in LibTorch's tensors.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use tch::{CModule, Cuda, IValue, Kind, TchError};

use super::TorchScriptError;
use super::convert::{sizes, to_torch};
use super::metadata::{self, Metadata};
use super::output::{Output, kind_of, reason};
use super::packed::{Packed, agree};
use crate::device::Compute;

/// The method that classifies images with the feature map of a tap replaced: (images, index of the tap, feature) to logits.
const REPLACED: &str = "replaced";

/// A frozen module on its device.
#[derive(Debug)]
pub struct Module {
    module: CModule,
    /// The file.
    pub path: PathBuf,
    /// Names of taps that are returned as a list.
    names: Vec<String>,
    device: tch::Device,
    kind: Kind,
    /// Whether taps can be replaced.
    pub replaces: bool,
    /// Weights packed for one image without a gradient, if the module has them and they agree with `forward`.
    pub packed: Option<Packed>,
}

impl Module {
    /// Loads the file at `path`, with its metadata if it has any.
    ///
    /// # Errors
    /// [`TorchScriptError::Device`], [`TorchScriptError::Load`], [`TorchScriptError::Metadata`].
    pub fn load(path: &Path, compute: &Compute) -> Result<(Self, Option<Metadata>), TorchScriptError> {
        let device = torch_device(compute)?;
        if device == tch::Device::Cpu {
            tch::set_num_threads(i32::try_from(compute.threads).unwrap_or(i32::MAX));
        }
        let unloaded = |error: TchError| TorchScriptError::Load { path: path.into(), reason: reason(&error) };
        // The optimising executor would recompile the module for every combination of shapes and gradients, and results before
        // and after would differ.
        tch::jit::f_set_graph_executor_optimize(false).map_err(unloaded)?;
        let mut module = CModule::load_on_device(path, device).map_err(unloaded)?;
        module.f_set_eval().map_err(unloaded)?;
        for (_, weight) in module.named_parameters().map_err(unloaded)? {
            let _ = weight.f_set_requires_grad(false).map_err(unloaded)?;
        }
        let metadata = metadata::read(&module, path)?;
        let loaded = Self {
            module,
            path: path.into(),
            names: metadata.as_ref().map_or_else(Vec::new, |metadata| metadata.taps.clone()),
            device,
            kind: metadata.as_ref().map_or(Kind::Float, |metadata| metadata::kind(metadata.dtype)),
            replaces: metadata.as_ref().is_some_and(|metadata| metadata.replaces),
            packed: None,
        };
        Ok((loaded, metadata))
    }

    /// Whether it computes on the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device == tch::Device::Cpu
    }

    /// Packs the weights for single images of `side` pixels, if the module computes on the CPU and the packed weights agree with
    /// `forward` on a test image.
    pub fn pack(&mut self, side: usize) {
        if self.is_cpu() {
            self.packed = Packed::new(&self.module).filter(|packed| self.agrees(packed, side as i64));
        }
    }

    /// Whether `packed` weights and `forward` agree on a test image.
    fn agrees(&self, packed: &Packed, side: i64) -> bool {
        let image = tch::Tensor::f_linspace(-2.0, 2.0, 3 * side * side, (Kind::Float, self.device));
        let image = image.and_then(|image| image.f_reshape([1, 3, side, side])?.f_to_kind(self.kind));
        let Ok(image) = image else { return false };
        let with = self.output(&image, packed.run(&self.module, &image));
        match (with, tch::no_grad(|| self.forward(&image))) {
            (Ok(with), Ok(without)) => agree(&with, &without, self.kind),
            _ => false,
        }
    }

    /// Runs `forward` without a graph on blank images of `shape`; returns them, too.
    pub fn probe(&self, shape: [usize; 4]) -> Result<(tch::Tensor, Output), TorchScriptError> {
        let images = tch::Tensor::f_zeros(shape.map(|side| side as i64), (self.kind, self.device));
        let images = images.map_err(|error| self.failed(&shape, &error))?;
        let output = tch::no_grad(|| self.forward(&images))?;
        Ok((images, output))
    }

    /// Runs `forward`.
    pub fn forward(&self, images: &tch::Tensor) -> Result<Output, TorchScriptError> {
        self.output(images, self.module.forward_is(&[IValue::Tensor(images.shallow_clone())]))
    }

    /// Runs `forward` without a graph; with packed weights, if there are any, for a `single` image.
    pub fn observe(&self, images: &tch::Tensor, single: bool) -> Result<Output, TorchScriptError> {
        match self.packed.as_ref().filter(|_| single) {
            Some(packed) => self.output(images, packed.run(&self.module, images)),
            None => tch::no_grad(|| self.forward(images)),
        }
    }

    /// Logits of the images `owners` of `images`, with the feature map of tap `tap` replaced by `feature`.
    pub fn replaced(
        &self,
        images: &tch::Tensor,
        owners: &[i64],
        tap: usize,
        feature: &tch::Tensor,
    ) -> Result<tch::Tensor, TorchScriptError> {
        let shape = sizes(images);
        let failed = |error: TchError| self.failed(&shape, &error);
        let owners = tch::Tensor::f_from_slice(owners).and_then(|owners| owners.f_to_device(self.device));
        let images = owners.and_then(|owners| images.f_index_select(0, &owners)).map_err(failed)?;
        let inputs = [IValue::Tensor(images), IValue::Int(tap as i64), IValue::Tensor(feature.shallow_clone())];
        match self.module.method_is(REPLACED, &inputs).map_err(failed)? {
            IValue::Tensor(logits) => Ok(logits),
            other => Err(self.wrong_output(&shape, format!("{} from {REPLACED}()", kind_of(&other)))),
        }
    }

    /// The gradient of <logits, cotangent> with respect to `leaf`; `None` if no gradient reaches it.
    pub fn backward(
        &self,
        logits: &tch::Tensor,
        cotangent: &Tensor<2>,
        leaf: &tch::Tensor,
    ) -> Result<Option<tch::Tensor>, TchError> {
        let cotangent = to_torch(cotangent, self.device, Kind::Float)?;
        let value = tch::with_grad(|| logits.f_to_kind(Kind::Float)?.f_multiply(&cotangent)?.f_sum(Kind::Float))?;
        let mut gradients = tch::Tensor::f_run_backward(&[value], &[leaf], false, false)?;
        Ok(gradients.pop().filter(tch::Tensor::defined))
    }

    /// A tensor on the module's device, in its precision.
    pub fn to_torch<const D: usize>(&self, x: &Tensor<D>) -> Result<tch::Tensor, TorchScriptError> {
        to_torch(x, self.device, self.kind).map_err(|error| self.failed(&x.dims(), &error))
    }

    /// Parses what the module returned for `images`.
    fn output(&self, images: &tch::Tensor, value: Result<IValue, TchError>) -> Result<Output, TorchScriptError> {
        let shape = sizes(images);
        let value = value.map_err(|error| self.failed(&shape, &error))?;
        Output::parse(value, &self.names, shape.first().copied().unwrap_or(0))
            .map_err(|found| self.wrong_output(&shape, found))
    }

    /// The module failed on images of this shape.
    pub fn failed(&self, images: &[usize], error: &TchError) -> TorchScriptError {
        TorchScriptError::Failed { path: self.path.clone(), images: images.into(), reason: reason(error) }
    }

    /// The module returned `found` for images of this shape.
    pub fn wrong_output(&self, images: &[usize], found: String) -> TorchScriptError {
        TorchScriptError::Output { path: self.path.clone(), images: images.into(), found }
    }
}

/// LibTorch's device for `compute`.
fn torch_device(compute: &Compute) -> Result<tch::Device, TorchScriptError> {
    let (kind, index) =
        compute.name.split_once(':').map_or((&compute.name[..], None), |(kind, index)| (kind, Some(index)));
    let index = match (kind, index.and_then(|index| index.parse().ok())) {
        ("cuda", index) => index.unwrap_or(0),
        ("tch", Some(index)) => index,
        _ => return Ok(tch::Device::Cpu),
    };
    match usize::try_from(Cuda::device_count()).unwrap_or(0) {
        count if index < count => Ok(tch::Device::Cuda(index)),
        count => Err(TorchScriptError::Device { name: compute.name.clone(), count }),
    }
}
