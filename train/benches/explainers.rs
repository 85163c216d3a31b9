//! A training step of T-TAME and one explanation, on every backbone that the peer is timed on, with random weights and
//! 1000 classes.
//!
//! ```sh
//! cargo bench --bench explainers -- training_step       # or: explanation; or one: tf_efficientnet_lite0
//! ```
//!
//! How a step's time grows with images, classes and taps (`growth`), and what this machine's cores reach at best (`rates`).
//!
//! `scripts/bench_pytorch.py` runs it beside PyTorch. Under `cargo test` everything has one turn, on the two smallest backbones
//! and with two images. `EXPLAINER_DEVICE` names another device than `flex`; two threads. Where `EXPLAINER_TORCHSCRIPTS`
//! names a folder, backbones are its `{name}.pt`.

#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use divan::{Bencher, black_box};
use explainer_train::data::Batch;
use explainer_train::distributed::ProcessGroup;
use explainer_train::fit::{Context, clip_gradients};
use explainer_zoo::adapter::Adapter;
use explainer_zoo::artifact::{Artifact, ArtifactConfig};
use explainer_zoo::backbone::{self, Backbone, Frozen, TapId};
use explainer_zoo::bilinear::resize;
use explainer_zoo::device::Compute;
use explainer_zoo::explain::{Explain, ExplainBatch, Explainer, Targets};
use explainer_zoo::explainer::tame::{MaskTarget, MaskedInputTask};
use explainer_zoo::explainer::{AnyHeadConfig, Method, TameConfig};
use explainer_zoo::feature_extractor::FeatureExtractor;
use explainer_zoo::masking::Masking;
use explainer_zoo::training::{AdamW, Objective, Optimizer, StepBatch, TrainingTask};
use explainer_zoo::weights::WeightReader;

/// The program's own, without which memory and time would not be the program's.
#[global_allocator]
static ALLOCATOR: explainer_allocator::Allocator = explainer_allocator::Allocator;

/// As many as the peer has where it is timed.
const THREADS: usize = 2;

/// A backbone, and the images of a training step.
#[derive(Clone, Copy)]
struct Work(&'static str, usize);

/// What the peer is timed on.
const WORK: [Work; 5] = [
    Work("tf_efficientnet_lite0", 32),
    Work("vit_small_patch14_dinov2", 32),
    Work("resnet50", 16),
    Work("vgg16", 8),
    Work("vit_b_16", 8),
];

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether it is to be timed, and not only to be shown that it runs.
fn timed() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

fn work() -> Vec<Work> {
    let count = if timed() { WORK.len() } else { 2 };
    WORK[..count].to_vec()
}

/// What both sorts of work need of a backbone.
struct ImageBatch {
    compute: Compute,
    backbone: Arc<dyn Backbone>,
    taps: Vec<TapId>,
    adapters: Vec<Adapter>,
    head: AnyHeadConfig,
}

/// What a backbone is to have other than its own.
#[derive(Clone, Copy, Default)]
struct Size {
    classes: Option<usize>,
    /// The last so many of its default taps.
    taps: Option<usize>,
}

impl ImageBatch {
    fn new(name: &str, size: Size) -> Self {
        let device = std::env::var("EXPLAINER_DEVICE").unwrap_or_else(|_| "flex".into());
        let compute = Compute::new(&device, Some(THREADS)).expect("EXPLAINER_DEVICE: a device of this program");
        let backbone = opened(name, size, &compute);
        let spec = backbone.spec().clone();
        let skipped = size.taps.map_or(0, |count| spec.default_taps.len() - count);
        let taps = backbone.taps(&spec.default_taps[skipped..]).expect("its own taps");
        let tapped: Vec<_> = taps.iter().map(|tap| backbone.tap(*tap).clone()).collect();
        let side = spec.preprocessing.crop;
        let adapters = tapped.iter().map(|tap| Adapter::new(tap, side)).collect::<Result<_, _>>();
        let head = TameConfig::ttame(&tapped, spec.classes, side).into();
        Self { compute, backbone, taps, adapters: adapters.expect("taps that are maps or tokens"), head }
    }

    /// Noise in 0..1, `images` of them.
    fn pixels(&self, images: usize) -> (Vec<f32>, usize) {
        let side = self.backbone.spec().preprocessing.crop;
        (explainer_zoo::weights::random::uniform(0, "pixels", images * 3 * side * side), side)
    }
}

fn opened(name: &str, size: Size, compute: &Compute) -> Arc<dyn Backbone> {
    if let Ok(folder) = std::env::var("EXPLAINER_TORCHSCRIPTS") {
        let path = format!("{folder}/{name}.pt");
        return backbone::open("torchscript", &path, None, None, compute, &mut |_, _| {}).expect("a TorchScript");
    }
    let architecture = backbone::architecture(name).expect("a registered backbone");
    let generate = |name: &str, shape: &[usize]| explainer_zoo::weights::random::values(0, name, shape);
    let reader =
        WeightReader::generated(Box::new(generate), &compute.device).with_classes(size.classes.unwrap_or(1000));
    Arc::new(Frozen::new(architecture, reader, None, compute).expect("a network of generated weights"))
}

/// Clean pass, maps, masked pass and its gradient, the loss's gradient in the head, the optimizer's step, and its figures
/// read.
#[divan::bench(args = work(), sample_count = 5, sample_size = 1)]
fn training_step(bencher: Bencher<'_, '_>, work: Work) {
    step(bencher, ImageBatch::new(work.0, Size::default()), work.1);
}

/// A training step with more images, classes or taps, on EfficientNet-Lite0.
mod growth {
    use super::*;

    fn subject(size: Size) -> ImageBatch {
        ImageBatch::new(WORK[0].0, size)
    }

    #[divan::bench(args = [8, 16, 32, 64], sample_count = 3, sample_size = 1)]
    fn images(bencher: Bencher<'_, '_>, images: usize) {
        step(bencher, subject(Size::default()), images);
    }

    #[divan::bench(args = [10, 1000, 21841], sample_count = 3, sample_size = 1)]
    fn classes(bencher: Bencher<'_, '_>, classes: usize) {
        step(bencher, subject(Size { classes: Some(classes), ..Size::default() }), WORK[0].1);
    }

    #[divan::bench(args = [1, 2, 3], sample_count = 3, sample_size = 1)]
    fn taps(bencher: Bencher<'_, '_>, taps: usize) {
        step(bencher, subject(Size { taps: Some(taps), ..Size::default() }), WORK[0].1);
    }
}

/// What two threads reach at best, each with a product or a copy of its own.
mod rates {
    use super::*;

    /// Side of the matrices, and f32 in a copy: 64 MiB, which no cache holds.
    const SIDE: usize = 1024;
    const LENGTH: usize = 16 << 20;

    fn both(job: impl Fn() + Sync) {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(&job));
            }
        });
    }

    /// Ten products of 2 * 1024^3 operations on either thread.
    #[divan::bench(sample_count = 10, sample_size = 1)]
    fn ten_products_each(bencher: Bencher<'_, '_>) {
        let side = if timed() { SIDE } else { 8 };
        let values = explainer_zoo::weights::random::uniform(0, "matrix", side * side);
        let matrix = Tensor::<2>::from_data(TensorData::new(values, [side, side]), &Compute::default().device);
        bencher.bench_local(|| {
            both(|| {
                for _ in 0..10 {
                    black_box(matrix.clone().matmul(matrix.clone()));
                }
            });
        });
    }

    /// Ten copies of 64 MiB on either thread, each read once and written once.
    #[divan::bench(sample_count = 10, sample_size = 1)]
    fn ten_copies_each(bencher: Bencher<'_, '_>) {
        let length = if timed() { LENGTH } else { 8 };
        let source = vec![1.0f32; length];
        bencher.bench_local(|| {
            both(|| {
                let mut target = vec![0.0f32; length];
                for _ in 0..10 {
                    target.copy_from_slice(black_box(&source));
                    black_box(&mut target);
                }
            });
        });
    }
}

fn step(bencher: Bencher<'_, '_>, subject: ImageBatch, images: usize) {
    let device = subject.compute.device.clone();
    let images = if timed() { images } else { 2 };
    let (pixels, side) = subject.pixels(images);
    let batch = Batch {
        pixels,
        height: side,
        width: side,
        indices: (0..images).collect(),
        classes: vec![None; images],
        ..Batch::default()
    };
    let task = MaskedInputTask { masked: MaskTarget::Image(Masking::BeforeNorm), objective: Objective::ttame() };
    let extractor = FeatureExtractor {
        preprocessing: subject.backbone.spec().preprocessing.clone(),
        backbone: subject.backbone,
        taps: subject.taps,
        adapters: subject.adapters,
        auxiliary: None,
    };
    let context = Context { extractor, device: device.clone(), group: ProcessGroup::single(), sync: None, cache: None };
    let mut head = subject.head.init(0, &device.autodiff());
    let settings = AdamW { weight_decay: 0.01, amsgrad: true, ..AdamW::default() };
    let (mut optimizer, _) = Optimizer::AdamW(settings).build().expect("an optimizer");
    let mut step = || {
        let step_batch = StepBatch { step: 0, indices: &batch.indices };
        let (gradients, output) = task.step(&head, context.observe(&batch), &step_batch, &context.step());
        let (gradients, _) = clip_gradients(&head, gradients, None);
        head = optimizer.step(1e-3, head.clone(), gradients);
        black_box(output.read().expect("metrics"))
    };
    if timed() {
        step(); // builds what later steps reuse
    }
    bencher.bench_local(step);
}

/// An image's class, and that class's map at the image's size.
#[divan::bench(args = work(), sample_count = 20, sample_size = 1)]
fn explanation(bencher: Bencher<'_, '_>, work: Work) {
    let subject = ImageBatch::new(work.0, Size::default());
    let (pixels, side) = subject.pixels(1);
    let device = subject.compute.device.clone();
    let spec = subject.backbone.spec();
    let config = ArtifactConfig::new(Method::Ttame, subject.head.clone(), spec.default_taps.clone(), spec, "random");
    let preprocessing = spec.preprocessing.clone();
    let extractor = FeatureExtractor::new(subject.backbone, preprocessing.clone(), &config.taps, None).expect("taps");
    let explainer = Explainer {
        artifact: Artifact { config, head: subject.head.init(0, &device) },
        extractor,
        compute: subject.compute,
        matched: Vec::new(),
    };
    let explain = || {
        let image = Tensor::from_data(TensorData::new(pixels.clone(), [1, 3, side, side]), &device);
        let batch = ExplainBatch::from_pixels(image, &preprocessing);
        let explained = explainer.explain_batch(&batch, Targets::Top(1)).expect("a map");
        black_box(resize(explained.maps, [side, side]).into_data())
    };
    if timed() {
        explain();
    }
    bencher.bench_local(explain);
}

fn main() {
    explainer_allocator::keep_freed_pages();
    divan::main();
}
