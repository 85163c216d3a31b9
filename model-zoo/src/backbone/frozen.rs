//! The Burn engine: any [`Network`] on any device as a [`Backbone`].

use burn::tensor::Tensor;

use super::attention::{AttentionHook, BlockAttention};
use super::bf16::Bf16Network;
use super::network::{Network, NoHook, Tap, TapHook, cat};
use super::spec::{Architecture, BackboneSpec};
use super::worker_pool::{WorkerPool, split};
use super::{Backbone, BackboneError, BackboneOutput, Cotangent, TapId, Vjp};
use crate::device::{Compute, Precision};
use crate::image::Preprocessing;
use crate::weights::WeightReader;

/// Images of a chunk.
const CHUNK: usize = 2;
/// Features of a chunk in [`Backbone::vjp_at`], all of one image: the part of the network before the tap runs once for them.
const SHARED_CHUNK: usize = 8;

/// A network on a Burn device, frozen.
#[derive(Debug)]
pub struct Frozen {
    network: Box<dyn Network>,
    spec: BackboneSpec,
    workers: WorkerPool,
    tensors: Vec<String>,
}

impl Frozen {
    /// Builds an architecture from weights; `sha256` is that of their file.
    ///
    /// # Errors
    /// [`BackboneError::Weights`] lists every missing, mis-shaped or superfluous tensor.
    pub fn new(
        architecture: Architecture,
        reader: WeightReader,
        sha256: Option<String>,
        compute: &Compute,
    ) -> Result<Self, BackboneError> {
        let reader = reader.with_alias(architecture.alias).with_precision(compute.precision);
        let mut reader = reader.with_head(architecture.head)?;
        let classes = reader.rows(architecture.head, 1000);
        let network = (architecture.build)(&mut reader);
        let network = match compute.precision {
            Precision::F32 => network,
            Precision::Bf16 => Box::new(Bf16Network(network)),
        };
        let tensors = reader.finish(architecture.name)?;
        let workers = match compute.is_cpu() {
            true => WorkerPool::new(compute.threads, CHUNK)?,
            false => WorkerPool::inline(),
        };
        let names = |taps: &[&str]| taps.iter().map(ToString::to_string).collect();
        let spec = BackboneSpec {
            name: architecture.name.into(),
            preprocessing: architecture.preprocessing,
            classes,
            taps: architecture.taps,
            default_taps: names(architecture.default_taps),
            auxiliary_taps: names(architecture.auxiliary_taps.unwrap_or(architecture.default_taps)),
            weights_sha256: sha256,
        };
        Ok(Self { network, spec, workers, tensors })
    }

    /// An engine for a network with this spec. A batch is not split.
    pub(super) fn from_network(network: Box<dyn Network>, spec: BackboneSpec) -> Self {
        Self { network, spec, workers: WorkerPool::inline(), tensors: Vec::new() }
    }

    pub(super) fn set_preprocessing(&mut self, preprocessing: Preprocessing) {
        self.spec.preprocessing = preprocessing;
    }

    /// Names of the weight tensors in the order of reading: by blocks, from the image to the logits.
    pub fn tensors(&self) -> &[String] {
        &self.tensors
    }

    /// The network itself, for a hook of one's own.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// Runs `job` on chunks of `rows` features, the same number for each of `count` images.
    fn run_features<R: Send>(
        &self,
        count: usize,
        rows: usize,
        job: impl Fn(std::ops::Range<usize>) -> R + Sync,
    ) -> Vec<R> {
        let each = rows.div_ceil(count).max(1);
        if each == 1 || self.workers.is_inline() {
            return self.workers.run(rows, job);
        }
        let of_image = |image: usize| split(image * each..rows.min((image + 1) * each), SHARED_CHUNK);
        self.workers.run_chunks((0..count).flat_map(of_image).collect(), job)
    }

    /// Concatenates the results of chunks.
    fn concatenate(results: Vec<(Tensor<2>, Tap)>) -> Vjp {
        let (logits, gradients): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        let logits = cat(logits);
        let gradient = Tap::stack(gradients).unwrap_or_else(|| Tap::Map(Tensor::zeros([0, 0, 0, 0], &logits.device())));
        Vjp { logits, gradient }
    }
}

impl Backbone for Frozen {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, images: Tensor<4>, taps: &[TapId]) -> BackboneOutput {
        let images = images.without_autodiff();
        let names: Vec<&str> = taps.iter().map(|id| self.tap(*id).name.as_str()).collect();
        let chunks = self.workers.run(images.dims()[0], |range| {
            let mut collect = CollectTaps { names: &names, taps: vec![None; names.len()] };
            let logits = self.network.forward(images.clone().narrow(0, range.start, range.len()), &mut collect);
            (logits, collect.taps)
        });
        let mut parts: Vec<Vec<Tap>> = vec![Vec::new(); taps.len()];
        let mut logits = Vec::new();
        for (part, found) in chunks {
            logits.push(part);
            parts.iter_mut().zip(found).for_each(|(all, tap)| all.extend(tap));
        }
        BackboneOutput { logits: cat(logits), taps: parts.into_iter().filter_map(Tap::stack).collect() }
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        Self::concatenate(self.workers.run(images.dims()[0], |range| {
            let leaf = images.clone().narrow(0, range.start, range.len()).autodiff().require_grad();
            let logits = self.network.forward(leaf.clone(), &mut NoHook);
            let (logits, gradient) = pullback(logits, range, cotangent, &leaf);
            (logits, Tap::Map(gradient))
        }))
    }

    fn vjp_at(&self, images: Tensor<4>, tap: TapId, feature: Tap, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        let name = self.tap(tap).name.as_str();
        let (count, rows) = (images.dims()[0].max(1), feature.batch());
        let each = rows.div_ceil(count).max(1);
        let job = |range: std::ops::Range<usize>| {
            let images = owners(&images, &range, each);
            match feature.rows(range.start, range.len()) {
                Tap::Map(x) => {
                    let leaf = x.without_autodiff().autodiff().require_grad();
                    let mut replace = ReplaceTap { name, map: Some(leaf.clone()), tokens: None };
                    let logits = self.network.forward(images, &mut replace);
                    let (logits, gradient) = pullback(logits, range, cotangent, &leaf);
                    (logits, Tap::Map(gradient))
                }
                Tap::Tokens(x) => {
                    let leaf = x.without_autodiff().autodiff().require_grad();
                    let mut replace = ReplaceTap { name, map: None, tokens: Some(leaf.clone()) };
                    let logits = self.network.forward(images, &mut replace);
                    let (logits, gradient) = pullback(logits, range, cotangent, &leaf);
                    (logits, Tap::Tokens(gradient))
                }
            }
        };
        Self::concatenate(self.run_features(count, rows, job))
    }

    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        let images = images.without_autodiff();
        let name = self.tap(tap).name.as_str();
        let (count, rows) = (images.dims()[0].max(1), feature.batch());
        let each = rows.div_ceil(count).max(1);
        cat(self.run_features(count, rows, |range| {
            let images = owners(&images, &range, each);
            let mut replace = match feature.rows(range.start, range.len()) {
                Tap::Map(x) => ReplaceTap { name, map: Some(x.without_autodiff()), tokens: None },
                Tap::Tokens(x) => ReplaceTap { name, map: None, tokens: Some(x.without_autodiff()) },
            };
            self.network.forward(images, &mut replace)
        }))
    }

    fn attention(&self, images: Tensor<4>, cotangent: Option<Cotangent<'_>>) -> Option<Vec<BlockAttention>> {
        let images = images.without_autodiff();
        let chunks = self.workers.run(images.dims()[0], |range| {
            let mut hook = AttentionHook::new(cotangent.is_some());
            let logits = self.network.forward(images.clone().narrow(0, range.start, range.len()), &mut hook);
            hook.finish(logits, range, cotangent)
        });
        BlockAttention::stack(chunks)
    }
}

/// The images of the features `rows`, with `each` features to an image. A single image if all belong to it: its activations
/// then broadcast over the features.
fn owners(images: &Tensor<4>, rows: &std::ops::Range<usize>, each: usize) -> Tensor<4> {
    let (first, last) = (rows.start / each, rows.end.saturating_sub(1) / each);
    let images = images.clone().narrow(0, first, last + 1 - first);
    if each == 1 || first == last {
        return images;
    }
    let [count, channels, height, width] = images.dims();
    images.unsqueeze_dim::<5>(1).repeat_dim(1, each).reshape([count * each, channels, height, width])
}

/// Logits without a graph, and the gradient of <logits, cotangent(logits)> with respect to `leaf`.
fn pullback<const D: usize>(
    logits: Tensor<2>,
    range: std::ops::Range<usize>,
    cotangent: Cotangent<'_>,
    leaf: &Tensor<D>,
) -> (Tensor<2>, Tensor<D>) {
    let plain = logits.clone().without_autodiff();
    let seed = cotangent(plain.clone(), range).without_autodiff();
    let gradients = (logits * seed.autodiff()).sum().backward();
    // Without a path from the leaf to the logits the gradient is zero.
    let gradient = leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().without_autodiff().zeros_like());
    (plain, gradient.without_autodiff())
}

/// A hook that collects the taps of these names.
struct CollectTaps<'a> {
    names: &'a [&'a str],
    taps: Vec<Option<Tap>>,
}

impl CollectTaps<'_> {
    fn keep(&mut self, name: &str, tap: impl Fn() -> Tap) {
        for (requested, slot) in self.names.iter().zip(&mut self.taps) {
            if *requested == name {
                *slot = Some(tap());
            }
        }
    }
}

impl TapHook for CollectTaps<'_> {
    fn needs(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        self.keep(name, || Tap::Map(x.clone()));
        x
    }

    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        self.keep(name, || Tap::Tokens(x.clone()));
        x
    }
}

/// A hook that replaces the feature map of one tap.
struct ReplaceTap<'a> {
    name: &'a str,
    map: Option<Tensor<4>>,
    tokens: Option<Tensor<3>>,
}

impl TapHook for ReplaceTap<'_> {
    fn needs(&self, name: &str) -> bool {
        name == self.name
    }

    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        if name == self.name { self.map.take().unwrap_or(x) } else { x }
    }

    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        if name == self.name { self.tokens.take().unwrap_or(x) } else { x }
    }
}
