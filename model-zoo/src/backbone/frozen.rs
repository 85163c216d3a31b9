//! The Burn engine: any [`Network`] on any device as a [`Backbone`].

use burn::tensor::Tensor;

use super::attended::{AttentionHook, BlockAttention};
use super::bf16::Bf16Network;
use super::network::{Network, NoHook, Tap, TapHook, cat};
use super::spec::{Architecture, BackboneSpec};
use super::workers::{Workers, split};
use super::{Backbone, BackboneError, BackboneOutput, Cotangent, TapId, Vjp};
use crate::device::{Compute, Precision};
use crate::image::Preprocessing;
use crate::weights::WeightReader;

/// Images a worker takes through the network at a time.
const CHUNK: usize = 2;
/// Features of one image that a worker takes through the part of the network behind their tap at a time. The part
/// before it runs once for all of them.
const SHARED_CHUNK: usize = 8;

/// A network on a Burn device, frozen.
#[derive(Debug)]
pub struct Frozen {
    network: Box<dyn Network>,
    spec: BackboneSpec,
    workers: Workers,
    tensors: Vec<String>,
}

impl Frozen {
    /// Builds an architecture from weights; `sha256` is that of the file they come from.
    ///
    /// # Errors
    /// [`BackboneError::Weights`] lists every missing, mis-shaped or superfluous tensor.
    pub fn new(
        architecture: Architecture,
        reader: WeightReader,
        sha256: Option<String>,
        compute: &Compute,
    ) -> Result<Self, BackboneError> {
        let mut reader = reader.with_alias(architecture.alias).with_precision(compute.precision);
        let classes = reader.rows(architecture.head, 1000);
        let network = (architecture.build)(&mut reader);
        let network = match compute.precision {
            Precision::F32 => network,
            Precision::Bf16 => Box::new(Bf16Network(network)),
        };
        let tensors = reader.finish(architecture.name)?;
        let workers = match compute.is_cpu() {
            true => Workers::new(compute.threads, CHUNK)?,
            false => Workers::none(),
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

    /// A network that is there already, with the spec that describes it. A batch goes through it whole.
    pub(super) fn from_network(network: Box<dyn Network>, spec: BackboneSpec) -> Self {
        Self { network, spec, workers: Workers::none(), tensors: Vec::new() }
    }

    pub(super) fn set_preprocessing(&mut self, preprocessing: Preprocessing) {
        self.spec.preprocessing = preprocessing;
    }

    /// Names of its tensors in the order in which it reads them, which is from the image to the logits by blocks.
    pub fn tensors(&self) -> &[String] {
        &self.tensors
    }

    /// The network itself, for what the trait does not offer.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// Runs `job` on parts of `rows` features, the same number for each of `count` images.
    fn run_features<R: Send>(
        &self,
        count: usize,
        rows: usize,
        job: impl Fn(std::ops::Range<usize>) -> R + Sync,
    ) -> Vec<R> {
        let each = rows.div_ceil(count).max(1);
        if each == 1 || self.workers.is_none() {
            return self.workers.run(rows, job);
        }
        let own = |image: usize| split(image * each..rows.min((image + 1) * each), SHARED_CHUNK);
        self.workers.run_chunks((0..count).flat_map(own).collect(), job)
    }

    /// Stacks the answers of chunks.
    fn stack(answers: Vec<(Tensor<2>, Tap)>) -> Vjp {
        let (logits, gradients): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
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
            let mut collect = Collect { names: &names, taps: vec![None; names.len()] };
            let logits = self.network.forward(images.clone().narrow(0, range.start, range.len()), &mut collect);
            (logits, collect.taps)
        });
        let mut seen: Vec<Vec<Tap>> = vec![Vec::new(); taps.len()];
        let mut logits = Vec::new();
        for (part, found) in chunks {
            logits.push(part);
            seen.iter_mut().zip(found).for_each(|(all, tap)| all.extend(tap));
        }
        BackboneOutput { logits: cat(logits), taps: seen.into_iter().filter_map(Tap::stack).collect() }
    }

    fn vjp(&self, images: Tensor<4>, cotangent: Cotangent<'_>) -> Vjp {
        let images = images.without_autodiff();
        Self::stack(self.workers.run(images.dims()[0], |range| {
            let leaf = images.clone().narrow(0, range.start, range.len()).autodiff().require_grad();
            let logits = self.network.forward(leaf.clone(), &mut NoHook);
            let (logits, gradient) = pull_back(logits, range, cotangent, &leaf);
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
                    let mut replace = Replace { name, map: Some(leaf.clone()), tokens: None };
                    let logits = self.network.forward(images, &mut replace);
                    let (logits, gradient) = pull_back(logits, range, cotangent, &leaf);
                    (logits, Tap::Map(gradient))
                }
                Tap::Tokens(x) => {
                    let leaf = x.without_autodiff().autodiff().require_grad();
                    let mut replace = Replace { name, map: None, tokens: Some(leaf.clone()) };
                    let logits = self.network.forward(images, &mut replace);
                    let (logits, gradient) = pull_back(logits, range, cotangent, &leaf);
                    (logits, Tap::Tokens(gradient))
                }
            }
        };
        Self::stack(self.run_features(count, rows, job))
    }

    fn forward_at(&self, images: Tensor<4>, tap: TapId, feature: Tap) -> Tensor<2> {
        let images = images.without_autodiff();
        let name = self.tap(tap).name.as_str();
        let (count, rows) = (images.dims()[0].max(1), feature.batch());
        let each = rows.div_ceil(count).max(1);
        cat(self.run_features(count, rows, |range| {
            let images = owners(&images, &range, each);
            let mut replace = match feature.rows(range.start, range.len()) {
                Tap::Map(x) => Replace { name, map: Some(x.without_autodiff()), tokens: None },
                Tap::Tokens(x) => Replace { name, map: None, tokens: Some(x.without_autodiff()) },
            };
            self.network.forward(images, &mut replace)
        }))
    }

    fn attention(&self, images: Tensor<4>, cotangent: Option<Cotangent<'_>>) -> Option<Vec<BlockAttention>> {
        let images = images.without_autodiff();
        let chunks = self.workers.run(images.dims()[0], |range| {
            let mut attend = AttentionHook::new(cotangent.is_some());
            let logits = self.network.forward(images.clone().narrow(0, range.start, range.len()), &mut attend);
            attend.finish(logits, range, cotangent)
        });
        BlockAttention::stack(chunks)
    }
}

/// The images that the features `rows` belong to, `each` of them to an image: one alone where it is the same for all,
/// whose activations then broadcast over its features.
fn owners(images: &Tensor<4>, rows: &std::ops::Range<usize>, each: usize) -> Tensor<4> {
    let (first, last) = (rows.start / each, rows.end.saturating_sub(1) / each);
    let images = images.clone().narrow(0, first, last + 1 - first);
    if each == 1 || first == last {
        return images;
    }
    let [count, channels, height, width] = images.dims();
    images.unsqueeze_dim::<5>(1).repeat_dim(1, each).reshape([count * each, channels, height, width])
}

/// Plain logits, and the gradient of <logits, cotangent(logits)> with respect to `leaf`.
fn pull_back<const D: usize>(
    logits: Tensor<2>,
    range: std::ops::Range<usize>,
    cotangent: Cotangent<'_>,
    leaf: &Tensor<D>,
) -> (Tensor<2>, Tensor<D>) {
    let plain = logits.clone().without_autodiff();
    let seed = cotangent(plain.clone(), range).without_autodiff();
    let gradients = (logits * seed.autodiff()).sum().backward();
    // No path from the leaf to the logits means that they do not react to it.
    let gradient = leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().without_autodiff().zeros_like());
    (plain, gradient.without_autodiff())
}

/// Keeps the taps of these names.
struct Collect<'a> {
    names: &'a [&'a str],
    taps: Vec<Option<Tap>>,
}

impl Collect<'_> {
    fn keep(&mut self, name: &str, tap: impl Fn() -> Tap) {
        for (wanted, slot) in self.names.iter().zip(&mut self.taps) {
            if *wanted == name {
                *slot = Some(tap());
            }
        }
    }
}

impl TapHook for Collect<'_> {
    fn watches(&self, name: &str) -> bool {
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

/// Puts another feature in the place of one tap.
struct Replace<'a> {
    name: &'a str,
    map: Option<Tensor<4>>,
    tokens: Option<Tensor<3>>,
}

impl TapHook for Replace<'_> {
    fn watches(&self, name: &str) -> bool {
        name == self.name
    }

    fn map(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        if name == self.name { self.map.take().unwrap_or(x) } else { x }
    }

    fn tokens(&mut self, name: &str, x: Tensor<3>) -> Tensor<3> {
        if name == self.name { self.tokens.take().unwrap_or(x) } else { x }
    }
}
