//! Path integration: the contributions to a class's logit along a path from a baseline to the input.
//!
//! For a representation h (the image, or a feature map after its adapter) and a baseline b of its shape the path is
//! v_k = b + (k/n)(h - b), k = 1..n, and the map is
//!
//! sum over channels of sum_k g(dF_t/dv_k) (v_k - v_{k-1}),
//!
//! with F_t the logit of class t. g is the identity in Integrated Gradients (Sundararajan et al., 2017), whose sum over
//! positions tends to F_t(h) - F_t(b) as n grows; it is max(0, .) in BEE (Barkan et al., 2025). F_t is the logit, not the
//! probability: the softmax saturates for confident predictions, and its gradient vanishes.
//!
//! Cost: n forward and n backward passes for each path. For a tap the part of the network before it runs once for all
//! features of an image in the same call.

use std::ops::Range;

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData, activation::relu};

use crate::adapter::{Adapter, AdapterError};
use crate::backbone::{Backbone, BackboneError, Tap, TapId};
use crate::image::Preprocessing;
use crate::maps::min_max;

/// The representation in which a path runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathLayer {
    /// Normalised images.
    Image,
    /// The feature maps of a tap.
    Tap {
        /// The tap.
        id: TapId,
        /// Its adapter. A transformer's prefix tokens stay those of the image.
        adapter: Adapter,
        /// Stride: input pixels per position.
        stride: usize,
    },
}

/// Why a site cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathLayerError {
    /// The backbone has no such tap.
    #[error("{0}; `image` is the image itself")]
    Unknown(#[source] BackboneError),
    /// The image size is not a multiple of a transformer's patches.
    #[error(transparent)]
    NotSquare(#[from] AdapterError),
    /// The backbone's taps cannot be replaced.
    #[error(
        "a path through tap {tap} replaces its features, which backbone {backbone} cannot; use `image`, or write the \
         TorchScript with model-zoo/scripts/export_torchscript.py"
    )]
    Fixed {
        /// The tap.
        tap: String,
        /// The backbone.
        backbone: String,
    },
}

impl PathLayer {
    /// The name of the image among taps.
    pub const IMAGE: &'static str = "image";

    /// The site of this name, a tap's or [`PathLayer::IMAGE`], for square images of `side` pixels.
    ///
    /// # Errors
    /// [`PathLayerError`] names the tap.
    pub fn named(backbone: &dyn Backbone, name: &str, side: usize) -> Result<Self, PathLayerError> {
        if name == Self::IMAGE {
            return Ok(Self::Image);
        }
        let ids = backbone.taps(&[name.to_owned()]).map_err(PathLayerError::Unknown)?;
        let Some(id) = ids.first().copied() else { return Ok(Self::Image) };
        let spec = backbone.tap(id);
        if !backbone.can_replace_taps() {
            return Err(PathLayerError::Fixed { tap: name.into(), backbone: backbone.spec().name.clone() });
        }
        Ok(Self::Tap { id, adapter: Adapter::new(spec, side)?, stride: spec.stride })
    }

    /// Its name, as [`PathLayer::named`] takes it.
    pub fn name<'a>(&self, backbone: &'a dyn Backbone) -> &'a str {
        match self {
            Self::Image => Self::IMAGE,
            Self::Tap { id, .. } => &backbone.tap(*id).name,
        }
    }

    /// Stride: input pixels per position of the representation.
    pub fn stride(&self) -> usize {
        match self {
            Self::Image => 1,
            Self::Tap { stride, .. } => *stride,
        }
    }
}

/// The representation of images at a site.
#[derive(Clone, Debug)]
pub struct Representation {
    /// `[B,C,h,w]`, after the adapter.
    pub map: Tensor<4>,
    /// The tap as the backbone returned it; `None` at the image.
    tap: Option<Tap>,
}

impl Representation {
    /// The representation of these images, in this order.
    pub fn of(&self, images: &[usize]) -> Self {
        let rows = indices(images, &self.map.device());
        let tap = self.tap.clone().map(|tap| match tap {
            Tap::Map(map) => Tap::Map(map.select(0, rows.clone())),
            Tap::Tokens(tokens) => Tap::Tokens(tokens.select(0, rows.clone())),
        });
        Self { map: self.map.clone().select(0, rows), tap }
    }
}

/// Logits `[B,K]` of normalised images `[B,3,H,W]`, and their representations at each of `sites`, in one forward pass.
pub fn representations(
    backbone: &dyn Backbone,
    images: &Tensor<4>,
    sites: &[PathLayer],
) -> (Tensor<2>, Vec<Representation>) {
    let ids: Vec<TapId> =
        sites.iter().filter_map(|site| if let PathLayer::Tap { id, .. } = site { Some(*id) } else { None }).collect();
    let output = backbone.forward(images.clone(), &ids);
    let mut taps = output.taps.into_iter();
    let at = |site: &PathLayer| match (site, if *site == PathLayer::Image { None } else { taps.next() }) {
        (PathLayer::Tap { adapter, .. }, Some(tap)) => {
            Representation { map: adapter.apply(tap.clone()), tap: Some(tap) }
        }
        _ => Representation { map: images.clone(), tap: None },
    };
    (output.logits, sites.iter().map(at).collect())
}

/// Settings of a path integral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathIntegral {
    /// n, at least 1.
    pub steps: usize,
    /// Whether negative gradients are set to zero (BEE) or kept (Integrated Gradients).
    pub rectify: bool,
    /// Points of paths in one call of the backbone, at least 1: it bounds the memory, whatever the number of paths and
    /// steps.
    pub points_per_call: usize,
}

/// Points in a call by default: they fill a GPU, and take 20 MB as images of 224 pixels.
pub const POINTS_PER_CALL: usize = 32;

impl PathIntegral {
    /// The map of every path, neither resized nor normalised: `[P,1,h,w]`.
    ///
    /// Takes normalised images `[I,3,H,W]` with the class of each `[I]`, their representation at the site, and baselines
    /// `[P,C,h,w]`, P a multiple of I: those of the first image, then those of the second, and so on.
    pub fn maps(
        &self,
        backbone: &dyn Backbone,
        site: &PathLayer,
        images: &Tensor<4>,
        class: &Tensor<1, Int>,
        end: &Representation,
        baselines: &Tensor<4>,
    ) -> Tensor<4> {
        let [count, ..] = images.dims();
        let [paths, _, height, width] = baselines.dims();
        let each = paths / count.max(1);
        let steps = self.steps.max(1);
        let mut maps: Vec<Tensor<4>> = Vec::new();
        for block in blocks(count, each, steps, self.points_per_call.max(1)) {
            let part = self.block(backbone, site, images, class, end, baselines, each, &block);
            // A block that starts within a path continues the previous one.
            match maps.pop() {
                Some(last) if block.steps.start > 0 => maps.push(last + part),
                last => maps.extend(last.into_iter().chain([part])),
            }
        }
        match maps.is_empty() {
            true => Tensor::zeros([0, 1, height, width], &baselines.device()),
            false => Tensor::cat(maps, 0),
        }
    }

    /// The sum over the steps of one block: `[paths of the block,1,h,w]`.
    #[allow(clippy::too_many_arguments, reason = "the arguments of `maps`, and the block")]
    fn block(
        &self,
        backbone: &dyn Backbone,
        site: &PathLayer,
        images: &Tensor<4>,
        class: &Tensor<1, Int>,
        end: &Representation,
        baselines: &Tensor<4>,
        each: usize,
        block: &Block,
    ) -> Tensor<4> {
        let device = images.device();
        let (paths, steps) = (block.paths.len(), block.steps.len());
        let owners: Vec<usize> = block.paths.clone().map(|path| path / each).collect();
        let from = baselines.clone().narrow(0, block.paths.start, paths);
        let [_, channels, height, width] = from.dims();
        let difference = end.map.clone().select(0, indices(&owners, &device)) - from.clone();

        let shares: Vec<f32> = block.steps.clone().map(|k| (k + 1) as f32 / self.steps.max(1) as f32).collect();
        let shares = Tensor::<1>::from_data(TensorData::new(shares, [steps]), &device).reshape([1, steps, 1, 1, 1]);
        let points = from.unsqueeze_dim::<5>(1) + difference.clone().unsqueeze_dim::<5>(1) * shares;
        let points = points.reshape([paths * steps, channels, height, width]);

        let rows: Vec<usize> = owners.iter().flat_map(|owner| std::iter::repeat_n(*owner, steps)).collect();
        let cotangent = one_hot(class.clone().select(0, indices(&rows, &device)));
        let gradient = match (site, &end.tap) {
            (PathLayer::Tap { id, adapter, .. }, Some(tap)) => {
                let feature = match tap {
                    Tap::Map(_) => Tap::Map(points),
                    Tap::Tokens(tokens) => {
                        let tokens = tokens.clone().select(0, indices(&rows, &device));
                        adapter.restore(points, &Tap::Tokens(tokens))
                    }
                };
                let images = images.clone().narrow(0, block.images.start, block.images.len());
                adapter.apply(backbone.vjp_at(images, *id, feature, &cotangent).gradient)
            }
            _ => match backbone.vjp(points, &cotangent).gradient {
                Tap::Map(gradient) => gradient,
                Tap::Tokens(_) => Tensor::zeros([paths * steps, channels, height, width], &device),
            },
        };
        let gradient = if self.rectify { relu(gradient) } else { gradient };
        let slope = gradient.reshape([paths, steps, channels, height, width]).sum_dim(1);
        // v_k - v_{k-1} is the same at every step of a path.
        let increment = difference / self.steps.max(1) as f32;
        (slope.reshape([paths, channels, height, width]) * increment).sum_dim(1)
    }
}

/// Points of paths in one call of the backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    images: Range<usize>,
    /// All paths of `images`, or some paths of one image.
    paths: Range<usize>,
    /// All steps, or some steps of one path.
    steps: Range<usize>,
}

/// Blocks of at most `limit` points, in order: whole images if they fit, else whole paths, else steps.
fn blocks(images: usize, each: usize, steps: usize, limit: usize) -> Vec<Block> {
    let pieces = |range: Range<usize>, size: usize| {
        let (end, size) = (range.end, size.max(1));
        range.step_by(size).map(move |from| from..end.min(from + size))
    };
    if each == 0 {
        return Vec::new();
    }
    if each * steps <= limit {
        let whole =
            |images: Range<usize>| Block { paths: images.start * each..images.end * each, images, steps: 0..steps };
        return pieces(0..images, limit / (each * steps)).map(whole).collect();
    }
    let mut blocks = Vec::new();
    for image in 0..images {
        for paths in pieces(image * each..(image + 1) * each, limit / steps) {
            let some = |steps| Block { images: image..image + 1, paths: paths.clone(), steps };
            blocks.extend(pieces(0..steps, limit).map(some));
        }
    }
    blocks
}

/// The cotangent dL/dlogits for L the sum of each row's logit of its `class` `[n]`.
pub fn one_hot(class: Tensor<1, Int>) -> impl Fn(Tensor<2>, Range<usize>) -> Tensor<2> + Sync {
    move |logits, rows| {
        let index = class.clone().narrow(0, rows.start, rows.len()).unsqueeze_dim(1);
        let ones = Tensor::<2>::ones([rows.len(), 1], &logits.device());
        logits.zeros_like().scatter(1, index, ones, IndexingUpdateOp::Add)
    }
}

fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Maps `[B,1,h,w]` as heat maps of the image: resized to `size` (rows, columns), bicubic without aligned corners, and min-max
/// normalised to 0..=1 each.
pub fn heat_maps(maps: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = maps.dims();
    if [height, width] == size {
        return min_max(maps);
    }
    let options = InterpolateOptions::new(InterpolateMode::Bicubic).with_align_corners(false).with_output_size(size);
    min_max(interpolate(maps, options))
}

/// Integrated Gradients (Sundararajan et al., 2017) with one baseline: normalised images `[B,3,H,W]`, their classes `[B]` and a
/// normalised baseline `[1,3,H,W]` to maps `[B,1,H,W]` in 0..=1.
///
/// Attributions keep their sign before min-max normalisation. `steps` forward and `steps` backward passes an image.
pub fn integrated_gradients(
    backbone: &dyn Backbone,
    images: &Tensor<4>,
    class: &Tensor<1, Int>,
    baseline: &Tensor<4>,
    steps: usize,
) -> Tensor<4> {
    let integral = PathIntegral { steps, rectify: false, points_per_call: POINTS_PER_CALL };
    let [batch, _, height, width] = images.dims();
    let end = Representation { map: images.clone(), tap: None };
    let baselines = baseline.clone().repeat_dim(0, batch);
    heat_maps(integral.maps(backbone, &PathLayer::Image, images, class, &end, &baselines), [height, width])
}

/// A black image `[1,3,side,side]`, normalised: the usual baseline of Integrated Gradients.
pub fn black(preprocessing: &Preprocessing, side: usize, device: &Device) -> Tensor<4> {
    preprocessing.normalise(Tensor::zeros([1, 3, side, side], device))
}

#[cfg(test)]
mod tests;
