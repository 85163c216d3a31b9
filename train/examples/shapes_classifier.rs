//! Trains the small residual classifier of the procedural image set and writes its weights for the model zoo.
//!
//! ```sh
//! cargo run --release -p explainer-train --example shapes_classifier -- model-zoo/assets/shapes_resnet.safetensors
//! ```
//!
//! Every step sees 64 scenes that no step saw before ([`Split::Train`]); what counts is the accuracy of the *written*
//! file on 2,000 scenes of [`Split::Fresh`]. The file holds torchvision's parameter names; convolutions and the last
//! layer are stored in half precision, batch normalisation in single precision.

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::store::{
    BurnToPyTorchAdapter, HalfPrecisionAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore,
};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use explainer_train::data::shapes::{SIDE, ShapesSet, Split};

const SEED: u64 = 0;
const BATCH: usize = 64;
const STEPS: usize = 2000;
const PEAK_LEARNING_RATE: f64 = 3e-3;
const FRESH: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "model-zoo/assets/shapes_resnet.safetensors".into());
    let steps = arguments.next().map_or(Ok(STEPS), |steps| steps.parse())?;

    let device = Device::flex();
    device.seed(SEED);
    let model = train(ResNet::new(&device.clone().autodiff()), &device, steps)?;
    save(&model.valid(), Path::new(&path))?;

    let written = load(Path::new(&path), &device)?;
    let right = count_right(&written, &ShapesSet::new(Split::Fresh, FRESH, SEED), &device);
    println!("{path}: {right} of {FRESH} fresh scenes right ({:.2}%)", 100.0 * right as f64 / FRESH as f64);
    Ok(())
}

/// A residual network in torchvision's manner: a strided stem and one basic block for each of three resolutions.
///
/// Images `[B, 3, 96, 96]` normalised with mean 0.5 and standard deviation 0.5, logits `[B, 10]`.
#[derive(Module, Debug)]
struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    fc: Linear,
}

impl ResNet {
    fn new(device: &Device) -> Self {
        Self {
            conv1: convolution([3, 16], 3, 2, device),
            bn1: BatchNormConfig::new(16).init(device),
            layer1: vec![BasicBlock::new([16, 32], device)],
            layer2: vec![BasicBlock::new([32, 64], device)],
            layer3: vec![BasicBlock::new([64, 128], device)],
            fc: LinearConfig::new(128, ShapesSet::CLASSES.len()).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let stem = relu(self.bn1.forward(self.conv1.forward(images)));
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        let features = blocks.fold(stem, |x, block| block.forward(x)); // [B, 128, 6, 6]
        self.fc.forward(features.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

/// Two 3x3 convolutions, the first of stride 2, beside a 1x1 convolution of stride 2.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: (Conv2d, BatchNorm),
}

impl BasicBlock {
    fn new([from, to]: [usize; 2], device: &Device) -> Self {
        let norm = BatchNormConfig::new(to);
        Self {
            conv1: convolution([from, to], 3, 2, device),
            bn1: norm.init(device),
            conv2: convolution([to, to], 3, 1, device),
            bn2: norm.init(device),
            downsample: (convolution([from, to], 1, 2, device), norm.init(device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (reduce, norm) = &self.downsample;
        let short = norm.forward(reduce.forward(x.clone()));
        let long = relu(self.bn1.forward(self.conv1.forward(x)));
        relu(self.bn2.forward(self.conv2.forward(long)) + short)
    }
}

fn convolution(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new(channels, [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

fn train(mut model: ResNet, device: &Device, steps: usize) -> Result<ResNet, Box<dyn Error>> {
    let device = device.clone().autodiff();
    // PyTorch's epsilon; Burn's own default is 1e-5.
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(1e-2).init();
    let mut schedule = CosineAnnealingLrSchedulerConfig::new(PEAK_LEARNING_RATE, steps).init()?;
    let criterion = CrossEntropyLossConfig::new().init(&device);

    let set = ShapesSet::new(Split::Train, steps * BATCH, SEED);
    let (send, batches) = sync_channel(2);
    let drawing = std::thread::spawn(move || {
        let ranges = (0..steps).map(|step| step * BATCH..(step + 1) * BATCH);
        ranges.map(|range| draw(&set, range)).try_for_each(|batch| send.send(batch))
    });

    let start = Instant::now();
    let mut sums = [0.0; 2];
    for (step, (images, classes)) in batches.iter().enumerate() {
        let images = Tensor::<4>::from_data(images, &device);
        let classes = Tensor::<1, Int>::from_data(classes, &device);
        let logits = model.forward(images);
        let loss = criterion.forward(logits.clone(), classes.clone());
        let right = logits.argmax(1).flatten::<1>(0, 1).equal(classes).int().sum();
        sums[0] += loss.clone().into_scalar::<f64>();
        sums[1] += right.into_scalar::<f64>();

        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(schedule.step(), model, gradients);
        const EVERY: usize = 100;
        if (step + 1) % EVERY == 0 {
            let [loss, accuracy] = [sums[0] / EVERY as f64, sums[1] / (EVERY * BATCH) as f64];
            let rate = (step + 1) as f64 / start.elapsed().as_secs_f64();
            println!("step {}: loss {loss:.4}, accuracy {:.2}%, {rate:.2} steps a second", step + 1, 100.0 * accuracy);
            sums = [0.0; 2];
        }
    }
    match drawing.join() {
        Ok(sent) => sent?,
        Err(_) => return Err("the thread that draws scenes died".into()),
    }
    Ok(model)
}

/// The scenes of `range`: images `[n, 3, SIDE, SIDE]` normalised to -1..=1, and classes `[n]`.
fn draw(set: &ShapesSet, range: std::ops::Range<usize>) -> (TensorData, TensorData) {
    let count = range.len();
    let classes: Vec<i64> = range.clone().map(|i| set.class(i) as i64).collect();
    let mut values = Vec::with_capacity(count * 3 * SIDE * SIDE);
    for i in range {
        let image = set.scene(i).image;
        for channel in 0..3 {
            values.extend(image.iter().skip(channel).step_by(3).map(|&c| f32::from(c) / 127.5 - 1.0));
        }
    }
    (TensorData::new(values, [count, 3, SIDE, SIDE]), TensorData::new(classes, [count]))
}

fn count_right(model: &ResNet, set: &ShapesSet, device: &Device) -> usize {
    let mut right = 0;
    for first in (0..set.len()).step_by(BATCH) {
        let (images, classes) = draw(set, first..(first + BATCH).min(set.len()));
        let predicted = model.forward(Tensor::from_data(images, device)).argmax(1).flatten::<1>(0, 1);
        right += predicted.equal(Tensor::from_data(classes, device)).int().sum().into_scalar::<i64>() as usize;
    }
    right
}

fn save(model: &ResNet, path: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut store = SafetensorsStore::from_file(path)
        .overwrite(true)
        .clear_metadata()
        .metadata("format", "pt")
        .metadata("classes", ShapesSet::CLASSES.join(","))
        .metadata("made_by", "cargo run --release -p explainer-train --example shapes_classifier")
        .with_to_adapter(HalfPrecisionAdapter::new().chain(BurnToPyTorchAdapter));
    Ok(model.save_into(&mut store)?)
}

fn load(path: &Path, device: &Device) -> Result<ResNet, Box<dyn Error>> {
    let mut model = ResNet::new(device).valid();
    let mut store =
        SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter.chain(HalfPrecisionAdapter::new()));
    model.load_from(&mut store)?;
    Ok(model)
}
