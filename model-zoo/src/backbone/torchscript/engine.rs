//! The LibTorch engine: a TorchScript module as a [`Backbone`].

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor};
use tch::TchError;

use super::convert::{sizes, to_burn};
use super::module::Module;
use super::output::Output;
use super::shape::tap_spec;
use super::{NAME, TorchScriptError};
use crate::backbone::network::cat;
use crate::backbone::worker_pool::split;
use crate::backbone::{Backbone, BackboneError, BackboneOutput, BackboneSpec, Cotangent, Tap, TapId, TapSpec, Vjp};
use crate::device::Compute;
use crate::image::Preprocessing;

/// Images of a chunk on the CPU: it bounds the activations that are held for a gradient.
const CHUNK: usize = 8;
/// Images of the probe: more than one, to detect a batch axis that is lost or fixed.
const PROBE: usize = 2;

/// A frozen TorchScript module.
///
/// LibTorch computes each chunk with its own threads. Its graph lives as long as one call.
#[derive(Debug)]
pub struct TorchScript {
    pub(super) module: Module,
    spec: BackboneSpec,
    chunk: usize,
    failure: Mutex<Option<TorchScriptError>>,
}

impl TorchScript {
    /// Loads the file at `path`, whose SHA-256 is `sha256`, and probes it with blank images. `preprocessing` overrides that of
    /// the file's metadata.
    ///
    /// It runs on the GPU that `compute` names (`cuda:N` or `tch:N`), otherwise on the CPU with `compute.threads` threads.
    ///
    /// # Errors
    /// Any of [`TorchScriptError`] but `NotBuilt`, `NoFile`, `NoGradient` and `Fixed`.
    pub fn load(
        path: &Path,
        sha256: String,
        preprocessing: Option<&Preprocessing>,
        compute: &Compute,
    ) -> Result<Self, TorchScriptError> {
        let (module, metadata) = Module::load(path, compute)?;
        let own = metadata.as_ref().map(|metadata| &metadata.preprocessing);
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
        let chunk = if module.is_cpu() { CHUNK } else { usize::MAX };
        let mut loaded = Self { module, spec, chunk, failure: Mutex::new(None) };
        let prefix = |name: &str| metadata.as_ref()?.prefix_tokens.get(name).copied();
        (loaded.spec.classes, loaded.spec.taps) = loaded.probe(prefix)?;
        loaded.spec.default_taps = loaded.spec.taps.iter().map(|tap| tap.name.clone()).collect();
        loaded.spec.auxiliary_taps.clone_from(&loaded.spec.default_taps);
        if metadata.is_some_and(|metadata| metadata.packs) {
            loaded.module.pack(loaded.spec.preprocessing.crop);
        }
        Ok(loaded)
    }

    /// The number of classes and the taps, from blank images.
    fn probe(&self, prefix: impl Fn(&str) -> Option<usize>) -> Result<(usize, Vec<TapSpec>), TorchScriptError> {
        let side = self.spec.preprocessing.crop;
        let shape = [PROBE, 3, side, side];
        let (images, Output { logits, taps }) = self.module.probe(shape)?;
        // A tensor's version counts writes. Images may share memory that Burn goes on reading.
        if images.f_internal_version().is_ok_and(|writes| writes > 0) {
            return Err(TorchScriptError::Writes { path: self.module.path.clone() });
        }
        let wrong = |found| self.module.wrong_output(&shape, found);
        let spec = |(name, tap): &(String, tch::Tensor)| tap_spec(name, &sizes(tap), prefix(name), side).map_err(wrong);
        let specs = taps.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
        let twice = specs.iter().enumerate().find(|(i, tap)| specs[..*i].iter().any(|other| other.name == tap.name));
        if let Some((_, tap)) = twice {
            return Err(wrong(format!("two taps of the name {}", tap.name)));
        }
        Ok((sizes(&logits).last().copied().unwrap_or(0), specs))
    }

    /// Checks that the logits of images of shape `shape` have as many classes as those of the probe.
    fn checked(&self, logits: tch::Tensor, shape: &[usize]) -> Result<tch::Tensor, TorchScriptError> {
        let expected = [shape.first().copied().unwrap_or(0), self.spec.classes];
        if sizes(&logits) == expected {
            return Ok(logits);
        }
        let found = format!("logits of shape {:?} after {} classes before", logits.size(), self.spec.classes);
        Err(self.module.wrong_output(shape, found))
    }

    /// The forward pass of normalised images, chunk by chunk.
    fn observe(&self, images: &Tensor<4>, ids: &[TapId]) -> Result<BackboneOutput, TorchScriptError> {
        let (device, shape) = (images.device(), images.dims());
        let failed = |error: TchError| self.module.failed(&shape, &error);
        let torch = self.module.to_torch(images)?;
        let mut logits = Vec::new();
        let mut taps: Vec<Vec<tch::Tensor>> = ids.iter().map(|_| Vec::new()).collect();
        // Packed weights round differently. They are for a batch of one, never for the last image of a larger batch, so that
        // the output of an image does not depend on how a batch is split into chunks.
        let single = shape[0] == 1;
        for range in split(0..shape[0], self.chunk) {
            let part = rows(&torch, &range).map_err(failed)?;
            let output = self.module.observe(&part, single)?;
            logits.push(self.checked(output.logits, &sizes(&part))?);
            for (id, parts) in ids.iter().zip(&mut taps) {
                let spec = self.tap(*id);
                let found = output.taps.iter().find(|(name, _)| *name == spec.name).map(|(_, tap)| tap);
                let fits = |tap: &&tch::Tensor| match (spec.prefix_tokens, &sizes(tap)[..]) {
                    (None, [_, channels, _, _]) | (Some(_), [_, _, channels]) => *channels == spec.channels,
                    _ => false,
                };
                let tap = found.filter(fits).ok_or_else(|| {
                    self.module.wrong_output(&shape, format!("{} as tap {}, unlike before", describe(found), spec.name))
                })?;
                parts.push(tap.shallow_clone());
            }
        }
        copy_shared(&torch, &mut taps).map_err(failed)?;
        let taps = taps.iter().map(|parts| tap(parts, &device)).collect::<Result<_, _>>().map_err(failed)?;
        let logits = to_burn(&logits, [shape[0], self.spec.classes], &device).map_err(failed)?;
        Ok(BackboneOutput { logits, taps })
    }

    /// Logits `logits_of(leaf, range)` and the gradient of <logits, cotangent> with respect to `leaf`, chunk by chunk. `to` names
    /// the leaf in errors.
    fn differentiate<const D: usize>(
        &self,
        leaf: &Tensor<D>,
        cotangent: Cotangent<'_>,
        to: &str,
        logits_of: impl Fn(&tch::Tensor, &Range<usize>) -> Result<tch::Tensor, TorchScriptError>,
    ) -> Result<(Tensor<2>, Tensor<D>), TorchScriptError> {
        let (device, shape) = (leaf.device(), leaf.dims());
        let torch = self.module.to_torch(leaf)?;
        let failed = |error: TchError| self.module.failed(&shape, &error);
        let no_gradient = || TorchScriptError::NoGradient { path: self.module.path.clone(), to: to.into() };
        let (mut logits, mut gradients) = (Vec::new(), Vec::new());
        for range in split(0..shape[0], self.chunk) {
            let leaf =
                rows(&torch, &range).and_then(|part| part.f_detach()?.f_set_requires_grad(true)).map_err(failed)?;
            let tracked = tch::with_grad(|| logits_of(&leaf, &range))?;
            let tracked = self.checked(tracked, &sizes(&leaf))?;
            if !tracked.requires_grad() {
                return Err(no_gradient());
            }
            let plain =
                to_burn(std::slice::from_ref(&tracked), [range.len(), self.spec.classes], &device).map_err(failed)?;
            let seed = cotangent(plain.clone(), range).without_autodiff();
            let gradient = self.module.backward(&tracked, &seed, &leaf).map_err(failed)?;
            gradients.push(gradient.ok_or_else(no_gradient)?);
            logits.push(plain);
        }
        let gradient = to_burn(&gradients, shape, &device).map_err(failed)?;
        let logits = match logits.is_empty() {
            true => Tensor::zeros([0, self.spec.classes], &device),
            false => cat(logits),
        };
        Ok((logits, gradient))
    }

    /// [`TorchScript::differentiate`] with the rows of a feature, `leaf`, in the place of `tap`; the same number of rows belongs
    /// to each of `images`.
    fn differentiate_at<const D: usize>(
        &self,
        images: &Tensor<4>,
        tap: TapId,
        leaf: &Tensor<D>,
        cotangent: Cotangent<'_>,
    ) -> Result<(Tensor<2>, Tensor<D>), TorchScriptError> {
        let name = &self.tap(tap).name;
        if !self.module.replaces {
            return Err(TorchScriptError::Fixed { path: self.module.path.clone(), tap: name.clone() });
        }
        let shape = images.dims();
        let each = leaf.dims()[0].div_ceil(shape[0].max(1)).max(1);
        let images = self.module.to_torch(images)?;
        self.differentiate(leaf, cotangent, &format!("tap {name}"), |feature, range| {
            let owners: Vec<i64> = range.clone().map(|row| (row / each) as i64).collect();
            self.module.replaced(&images, &owners, tap.0, feature)
        })
    }

    /// Keeps the first failure for [`Backbone::failure`] and returns `fallback` in the place of the output.
    fn or_failure<T>(&self, result: Result<T, TorchScriptError>, fallback: impl FnOnce() -> T) -> T {
        result.unwrap_or_else(|error| {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            fallback()
        })
    }

    /// NaN logits and a NaN gradient of `leaf`, for a call that failed.
    fn nan_vjp<const D: usize>(&self, leaf: &Tensor<D>) -> (Tensor<2>, Tensor<D>) {
        let device = leaf.device();
        (nan([leaf.dims()[0], self.spec.classes], &device), nan(leaf.dims(), &device))
    }
}

impl Backbone for TorchScript {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        let images = images.without_autodiff();
        self.or_failure(self.observe(&images, taps), || {
            let (device, [batch, _, height, _]) = (images.device(), images.dims());
            let nan_tap = |id: &TapId| {
                let spec = self.tap(*id);
                let grid = spec.grid(height);
                match spec.prefix_tokens {
                    None => Tap::Map(nan([batch, spec.channels, grid, grid], &device)),
                    Some(prefix) => Tap::Tokens(nan([batch, prefix + grid * grid, spec.channels], &device)),
                }
            };
            BackboneOutput {
                logits: nan([batch, self.spec.classes], &device),
                taps: taps.iter().map(nan_tap).collect(),
            }
        })
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        let logits_of = |leaf: &tch::Tensor, _: &Range<usize>| Ok(self.module.forward(leaf)?.logits);
        let result = self.differentiate(&images, cotangent, "its images", logits_of);
        let (logits, gradient) = self.or_failure(result, || self.nan_vjp(&images));
        Vjp { logits, gradient: Tap::Map(gradient) }
    }

    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        match feature {
            Tap::Map(leaf) => {
                let leaf = leaf.without_autodiff();
                let result = self.differentiate_at(&images, tap, &leaf, cotangent);
                let (logits, gradient) = self.or_failure(result, || self.nan_vjp(&leaf));
                Vjp { logits, gradient: Tap::Map(gradient) }
            }
            Tap::Tokens(leaf) => {
                let leaf = leaf.without_autodiff();
                let result = self.differentiate_at(&images, tap, &leaf, cotangent);
                let (logits, gradient) = self.or_failure(result, || self.nan_vjp(&leaf));
                Vjp { logits, gradient: Tap::Tokens(gradient) }
            }
        }
    }

    fn can_replace_taps(&self) -> bool {
        self.module.replaces
    }

    fn failure(&self) -> Option<BackboneError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map(BackboneError::from)
    }
}

fn nan<const D: usize>(dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::full(dims, f32::NAN, device)
}

fn describe(tap: Option<&tch::Tensor>) -> String {
    tap.map_or_else(|| "nothing".into(), |tap| format!("a tensor of shape {:?}", tap.size()))
}

/// Rows of a batch, without a copy.
fn rows(whole: &tch::Tensor, range: &Range<usize>) -> Result<tch::Tensor, TchError> {
    whole.f_narrow(0, range.start as i64, range.len() as i64)
}

/// Copies taps that share memory with the images or with another tap, as after a layer without effect in inference: Burn
/// takes every tensor for the only owner of its memory, and may write into it.
fn copy_shared(images: &tch::Tensor, taps: &mut [Vec<tch::Tensor>]) -> Result<(), TchError> {
    let mut taken = vec![images.data_ptr()];
    for tap in taps.iter_mut().flatten() {
        if taken.contains(&tap.data_ptr()) {
            *tap = tap.f_detach_copy()?;
        }
        taken.push(tap.data_ptr());
    }
    Ok(())
}

/// The chunks of a tap as one.
fn tap(parts: &[tch::Tensor], device: &Device) -> Result<Tap, TchError> {
    let batch = parts.iter().filter_map(|part| sizes(part).first().copied()).sum();
    match parts.first().map(sizes).as_deref() {
        Some(&[_, channels, height, width]) => Ok(Tap::Map(to_burn(parts, [batch, channels, height, width], device)?)),
        Some(&[_, count, channels]) => Ok(Tap::Tokens(to_burn(parts, [batch, count, channels], device)?)),
        _ => Err(TchError::Shape("a tap of no images".into())),
    }
}
