//! The engine: a TorchScript module in LibTorch as a [`Backbone`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;
use tch::{CModule, Cuda, IValue, Kind, TchError};

use super::crossing::{to_burn, to_torch};
use super::output::{Output, kind_of, reason};
use super::packed::{Packed, agree};
use super::shape::tap_spec;
use super::{NAME, TorchScriptError, record};
use crate::backbone::worker_pool::split;
use crate::backbone::{Backbone, BackboneError, BackboneOutput, BackboneSpec, Cotangent, Tap, TapId, TapSpec, Vjp};
use crate::device::Compute;
use crate::image::Preprocessing;

/// Images that go through the network at a time on the CPU, which bounds the activations held for a gradient.
const CHUNK: usize = 8;
/// Images of the probe: more than one, so that a batch axis that is lost or fixed is found out.
const PROBE: usize = 2;
/// The method that classifies images with another feature in the place of a tap: (images, number of the tap, feature)
/// to logits.
const REPLACED: &str = "replaced";

/// A TorchScript module, frozen.
///
/// LibTorch computes with its own threads on the whole of a chunk; its graph lives for the time of one answer.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    path: PathBuf,
    spec: BackboneSpec,
    /// Names of taps that come as a list.
    names: Vec<String>,
    device: tch::Device,
    kind: Kind,
    replaces: bool,
    /// Weights for one image without a gradient, where it has them and they can be used.
    pub(super) packed: Option<Packed>,
    chunk: usize,
    failure: Mutex<Option<TorchScriptError>>,
}

impl TorchScript {
    /// Loads the file at `path`, whose SHA-256 is `sha256`, and tries it on images without content. `preprocessing` goes
    /// before what the file says itself.
    ///
    /// It computes in LibTorch's part of the machine: on the GPU that `compute` names (`cuda:N` or `tch:N`), otherwise
    /// on the CPU with as many threads as `compute` has.
    ///
    /// # Errors
    /// Any of [`TorchScriptError`] but `NotBuilt`, `NoFile`, `NoGradient` and `Fixed`.
    pub fn load(
        path: &Path,
        sha256: String,
        preprocessing: Option<&Preprocessing>,
        compute: &Compute,
    ) -> Result<Self, TorchScriptError> {
        let device = place(compute)?;
        if device == tch::Device::Cpu {
            tch::set_num_threads(i32::try_from(compute.threads).unwrap_or(i32::MAX));
        }
        let unloaded = |error: TchError| TorchScriptError::Load { path: path.into(), reason: reason(&error) };
        // Otherwise it would be compiled anew for every mixture of shapes and gradients that it meets, and what it
        // computes while that goes on would differ from what it computes later.
        tch::jit::f_set_graph_executor_optimize(false).map_err(unloaded)?;
        let mut module = CModule::load_on_device(path, device).map_err(unloaded)?;
        module.f_set_eval().map_err(unloaded)?;
        for (_, weight) in module.named_parameters().map_err(unloaded)? {
            let _ = weight.f_set_requires_grad(false).map_err(unloaded)?;
        }
        let record = record::read(&module, path)?;
        let own = record.as_ref().map(|record| &record.preprocessing);
        let preprocessing = preprocessing.or(own).cloned();
        let preprocessing = preprocessing.ok_or_else(|| TorchScriptError::NoPreprocessing { path: path.into() })?;
        let spec = BackboneSpec {
            name: NAME.into(),
            preprocessing,
            classes: 0,
            taps: Vec::new(),
            default_taps: Vec::new(),
            auxiliary_taps: Vec::new(),
            weights_sha256: Some(sha256),
        };
        let mut loaded = Self {
            module,
            path: path.into(),
            spec,
            names: record.as_ref().map_or_else(Vec::new, |record| record.taps.clone()),
            device,
            kind: record.as_ref().map_or(Kind::Float, |record| record::kind(record.dtype)),
            replaces: record.as_ref().is_some_and(|record| record.replaces),
            packed: None,
            chunk: if device == tch::Device::Cpu { CHUNK } else { usize::MAX },
            failure: Mutex::new(None),
        };
        let prefix = |name: &str| record.as_ref()?.prefix_tokens.get(name).copied();
        (loaded.spec.classes, loaded.spec.taps) = loaded.probe(prefix)?;
        loaded.spec.default_taps = loaded.spec.taps.iter().map(|tap| tap.name.clone()).collect();
        loaded.spec.auxiliary_taps.clone_from(&loaded.spec.default_taps);
        if device == tch::Device::Cpu && record.is_some_and(|record| record.packs) {
            loaded.packed = Packed::new(&loaded.module).filter(|packed| loaded.agrees(packed));
        }
        Ok(loaded)
    }

    /// The number of classes and the taps, from images without content.
    fn probe(&self, prefix: impl Fn(&str) -> Option<usize>) -> Result<(usize, Vec<TapSpec>), TorchScriptError> {
        let side = self.spec.preprocessing.crop;
        let shape = [PROBE, 3, side, side];
        let images = tch::Tensor::f_zeros(shape.map(|side| side as i64), (self.kind, self.device));
        let images = images.map_err(|error| self.failed(&shape, &error))?;
        let Output { logits, taps } = tch::no_grad(|| self.forward(&images))?;
        // A version counts writes. Images may lie in memory that Burn goes on reading.
        if images.f_internal_version().is_ok_and(|writes| writes > 0) {
            return Err(TorchScriptError::Writes { path: self.path.clone() });
        }
        let wrong = |found| TorchScriptError::Output { path: self.path.clone(), images: shape.into(), found };
        let spec = |(name, tap): &(String, tch::Tensor)| tap_spec(name, &sizes(tap), prefix(name), side).map_err(wrong);
        let specs = taps.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
        let twice = specs.iter().enumerate().find(|(i, tap)| specs[..*i].iter().any(|other| other.name == tap.name));
        if let Some((_, tap)) = twice {
            return Err(wrong(format!("two taps of the name {}", tap.name)));
        }
        Ok((sizes(&logits).last().copied().unwrap_or(0), specs))
    }

    /// Whether an image alone comes out with `packed` weights as it does without them.
    fn agrees(&self, packed: &Packed) -> bool {
        let side = self.spec.preprocessing.crop as i64;
        let image = tch::Tensor::f_linspace(-2.0, 2.0, 3 * side * side, (Kind::Float, self.device));
        let image = image.and_then(|image| image.f_reshape([1, 3, side, side])?.f_to_kind(self.kind));
        let Ok(image) = image else { return false };
        let with = self.output(&image, packed.run(&self.module, &image));
        match (with, tch::no_grad(|| self.forward(&image))) {
            (Ok(with), Ok(without)) => agree(&with, &without),
            _ => false,
        }
    }

    /// Runs `forward`.
    fn forward(&self, images: &tch::Tensor) -> Result<Output, TorchScriptError> {
        self.output(images, self.module.forward_is(&[IValue::Tensor(images.shallow_clone())]))
    }

    /// The same without a gradient. Several images repay the laying out of weights, and what is best for one is slower for them.
    fn observed(&self, images: &tch::Tensor) -> Result<Output, TorchScriptError> {
        let alone = images.size().first() == Some(&1);
        match self.packed.as_ref().filter(|_| alone) {
            Some(packed) => self.output(images, packed.run(&self.module, images)),
            None => tch::no_grad(|| self.forward(images)),
        }
    }

    /// What was returned for `images`, taken apart.
    fn output(&self, images: &tch::Tensor, value: Result<IValue, TchError>) -> Result<Output, TorchScriptError> {
        let shape = sizes(images);
        let value = value.map_err(|error| self.failed(&shape, &error))?;
        Output::parse(value, &self.names, shape.first().copied().unwrap_or(0))
            .map_err(|found| TorchScriptError::Output { path: self.path.clone(), images: shape, found })
    }

    /// The logits of images of shape `shape` must be those of the probe's classes.
    fn checked(&self, logits: tch::Tensor, shape: &[usize]) -> Result<tch::Tensor, TorchScriptError> {
        let expected = [shape.first().copied().unwrap_or(0), self.spec.classes];
        if sizes(&logits) == expected {
            return Ok(logits);
        }
        let found = format!("logits of shape {:?} after {} classes before", logits.size(), self.spec.classes);
        Err(TorchScriptError::Output { path: self.path.clone(), images: shape.into(), found })
    }

    fn seen(&self, images: &Tensor<4>, ids: &[TapId]) -> Result<BackboneOutput, TorchScriptError> {
        let (device, shape) = (images.device(), images.dims());
        let torch = self.crossed(images, &shape)?;
        let mut logits = Vec::new();
        let mut taps: Vec<Vec<tch::Tensor>> = ids.iter().map(|_| Vec::new()).collect();
        for range in split(0..shape[0], self.chunk) {
            let part = rows(&torch, &range).map_err(|error| self.failed(&shape, &error))?;
            let Output { logits: own, taps: shown } = self.observed(&part)?;
            logits.push(self.checked(own, &sizes(&part))?);
            for (id, parts) in ids.iter().zip(&mut taps) {
                let spec = self.tap(*id);
                let found = shown.iter().find(|(name, _)| *name == spec.name).map(|(_, tap)| tap);
                let fits = |tap: &&tch::Tensor| match (spec.prefix_tokens, &sizes(tap)[..]) {
                    (None, [_, channels, _, _]) | (Some(_), [_, _, channels]) => *channels == spec.channels,
                    _ => false,
                };
                let tap = found.filter(fits).ok_or_else(|| TorchScriptError::Output {
                    path: self.path.clone(),
                    images: shape.into(),
                    found: format!("{} as tap {}, unlike before", shown_as(found), spec.name),
                })?;
                parts.push(tap.shallow_clone());
            }
        }
        let failed = |error: TchError| self.failed(&shape, &error);
        apart(&torch, &mut taps).map_err(failed)?;
        let taps = taps.iter().map(|parts| tap(parts, &device)).collect::<Result<_, _>>().map_err(failed)?;
        let logits = to_burn(&logits, [shape[0], self.spec.classes], &device).map_err(failed)?;
        Ok(BackboneOutput { logits, taps })
    }

    /// Takes `leaf` of shape `shape` through `logits` and back, chunk by chunk.
    fn answered<const D: usize>(
        &self,
        leaf: &Tensor<D>,
        cotangent: Cotangent<'_>,
        to: &str,
        logits_of: impl Fn(&tch::Tensor, &Range<usize>) -> Result<tch::Tensor, TorchScriptError>,
    ) -> Result<(Tensor<2>, Tensor<D>), TorchScriptError> {
        let (device, shape) = (leaf.device(), leaf.dims());
        let torch = self.crossed(leaf, &shape)?;
        let failed = |error: TchError| self.failed(&shape, &error);
        let (mut logits, mut gradients) = (Vec::new(), Vec::new());
        for range in split(0..shape[0], self.chunk) {
            let leaf =
                rows(&torch, &range).and_then(|part| part.f_detach()?.f_set_requires_grad(true)).map_err(failed)?;
            let own = tch::with_grad(|| logits_of(&leaf, &range))?;
            let own = self.checked(own, &sizes(&leaf))?;
            if !own.requires_grad() {
                return Err(TorchScriptError::NoGradient { path: self.path.clone(), to: to.into() });
            }
            let plain =
                to_burn(std::slice::from_ref(&own), [range.len(), self.spec.classes], &device).map_err(failed)?;
            let seed = cotangent(plain.clone(), range).without_autodiff();
            let pull = || {
                let seed = to_torch(&seed, self.device, Kind::Float)?;
                let value = tch::with_grad(|| own.f_to_kind(Kind::Float)?.f_multiply(&seed)?.f_sum(Kind::Float))?;
                tch::Tensor::f_run_backward(&[value], &[&leaf], false, false)
            };
            let gradient = pull().map_err(failed)?.pop().filter(tch::Tensor::defined);
            let gradient =
                gradient.ok_or_else(|| TorchScriptError::NoGradient { path: self.path.clone(), to: to.into() })?;
            logits.push(plain);
            gradients.push(gradient);
        }
        let gradient = to_burn(&gradients, shape, &device).map_err(failed)?;
        let logits = match logits.is_empty() {
            true => Tensor::zeros([0, self.spec.classes], &device),
            false => crate::backbone::network::cat(logits),
        };
        Ok((logits, gradient))
    }

    /// The answer with `leaf`, the rows of a feature, in the place of `tap`; `each` of them belong to one of `images`.
    fn answered_at<const D: usize>(
        &self,
        images: &Tensor<4>,
        tap: TapId,
        leaf: &Tensor<D>,
        cotangent: Cotangent<'_>,
    ) -> Result<(Tensor<2>, Tensor<D>), TorchScriptError> {
        let name = &self.tap(tap).name;
        if !self.replaces {
            return Err(TorchScriptError::Fixed { path: self.path.clone(), tap: name.clone() });
        }
        let shape = images.dims();
        let each = leaf.dims()[0].div_ceil(shape[0].max(1)).max(1);
        let whole = self.crossed(images, &shape)?;
        let failed = |error: TchError| self.failed(&shape, &error);
        self.check_failures(leaf, cotangent, &format!("tap {name}"), |feature, range| {
            let owners: Vec<i64> = range.clone().map(|row| (row / each) as i64).collect();
            let owners = tch::Tensor::f_from_slice(&owners).and_then(|owners| owners.f_to_device(self.device));
            let owners = owners.and_then(|owners| whole.f_index_select(0, &owners)).map_err(failed)?;
            let feature = IValue::Tensor(feature.shallow_clone());
            let inputs = [IValue::Tensor(owners), IValue::Int(tap.0 as i64), feature];
            match self.module.method_is(REPLACED, &inputs).map_err(failed)? {
                IValue::Tensor(logits) => Ok(logits),
                other => Err(TorchScriptError::Output {
                    path: self.path.clone(),
                    images: shape.into(),
                    found: format!("{} from {REPLACED}()", kind_of(&other)),
                }),
            }
        })
    }

    /// A tensor of shape `shape` where the module computes, in its type.
    fn crossed<const D: usize>(&self, x: &Tensor<D>, shape: &[usize]) -> Result<tch::Tensor, TorchScriptError> {
        to_torch(x, self.device, self.kind).map_err(|error| self.failed(shape, &error))
    }

    fn failed(&self, shape: &[usize], error: &TchError) -> TorchScriptError {
        TorchScriptError::Failed { path: self.path.clone(), images: shape.into(), reason: reason(error) }
    }

    /// Keeps the first failure for whoever asks, and hands out what stands for the answer that there is not.
    fn or_nothing<T>(&self, result: Result<T, TorchScriptError>, nothing: impl FnOnce() -> T) -> T {
        result.unwrap_or_else(|error| {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            nothing()
        })
    }
}

impl Backbone for TorchScript {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        let images = images.without_autodiff();
        self.or_nothing(self.seen(&images, taps), || {
            let (device, [batch, _, height, _]) = (images.device(), images.dims());
            let nothing = |id: &TapId| {
                let spec = self.tap(*id);
                let grid = spec.grid(height);
                match spec.prefix_tokens {
                    None => Tap::Map(nan([batch, spec.channels, grid, grid], &device)),
                    Some(prefix) => Tap::Tokens(nan([batch, prefix + grid * grid, spec.channels], &device)),
                }
            };
            BackboneOutput {
                logits: nan([batch, self.spec.classes], &device),
                taps: taps.iter().map(nothing).collect(),
            }
        })
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        let result = self.check_failures(&images, cotangent, "its images", |leaf, _| Ok(self.forward(leaf)?.logits));
        let (logits, gradient) = self.or_nothing(result, || self.no_answer(&images));
        Vjp { logits, gradient: Tap::Map(gradient) }
    }

    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        match feature {
            Tap::Map(leaf) => {
                let leaf = leaf.without_autodiff();
                let result = self.answered_at(&images, tap, &leaf, cotangent);
                let (logits, gradient) = self.or_nothing(result, || self.no_answer(&leaf));
                Vjp { logits, gradient: Tap::Map(gradient) }
            }
            Tap::Tokens(leaf) => {
                let leaf = leaf.without_autodiff();
                let result = self.answered_at(&images, tap, &leaf, cotangent);
                let (logits, gradient) = self.or_nothing(result, || self.no_answer(&leaf));
                Vjp { logits, gradient: Tap::Tokens(gradient) }
            }
        }
    }

    fn can_replace_taps(&self) -> bool {
        self.replaces
    }

    fn failure(&self) -> Option<BackboneError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map(BackboneError::from)
    }
}

impl TorchScript {
    /// What stands for the logits and the gradient of `leaf` where there are none.
    fn no_answer<const D: usize>(&self, leaf: &Tensor<D>) -> (Tensor<2>, Tensor<D>) {
        let device = leaf.device();
        (nan([leaf.dims()[0], self.spec.classes], &device), nan(leaf.dims(), &device))
    }
}

fn nan<const D: usize>(dims: [usize; D], device: &burn::tensor::Device) -> Tensor<D> {
    Tensor::full(dims, f32::NAN, device)
}

/// Where LibTorch computes.
fn place(compute: &Compute) -> Result<tch::Device, TorchScriptError> {
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

fn sizes(tensor: &tch::Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|side| usize::try_from(side).unwrap_or(0)).collect()
}

fn shown_as(tap: Option<&tch::Tensor>) -> String {
    tap.map_or_else(|| "nothing".into(), |tap| format!("a tensor of shape {:?}", tap.size()))
}

/// Rows of a batch, without a copy.
fn rows(whole: &tch::Tensor, range: &Range<usize>) -> Result<tch::Tensor, TchError> {
    whole.f_narrow(0, range.start as i64, range.len() as i64)
}

/// Copies taps that lie in the memory of the images or of another tap, as they do behind a layer that does nothing in
/// inference: Burn takes every tensor for the only owner of its memory, and may write into it.
fn apart(images: &tch::Tensor, taps: &mut [Vec<tch::Tensor>]) -> Result<(), TchError> {
    let mut taken = vec![images.data_ptr()];
    for tap in taps.iter_mut().flatten() {
        if taken.contains(&tap.data_ptr()) {
            *tap = tap.f_detach_copy()?;
        }
        taken.push(tap.data_ptr());
    }
    Ok(())
}

/// The parts of a tap as one.
fn tap(parts: &[tch::Tensor], device: &burn::tensor::Device) -> Result<Tap, TchError> {
    let batch = parts.iter().filter_map(|part| sizes(part).first().copied()).sum();
    match parts.first().map(sizes).as_deref() {
        Some(&[_, channels, height, width]) => Ok(Tap::Map(to_burn(parts, [batch, channels, height, width], device)?)),
        Some(&[_, count, channels]) => Ok(Tap::Tokens(to_burn(parts, [batch, count, channels], device)?)),
        _ => Err(TchError::Shape("a tap of no images".into())),
    }
}
